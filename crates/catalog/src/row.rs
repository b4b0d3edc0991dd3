//! Values between columns and domain types. A column is read by its name; a value that cannot be
//! what it should be is reported as a conversion failure, which the catalog reports as damage.

use std::str::FromStr;
use std::time::Duration;

use arrowhop_types::{Digest, InvalidTerm, Score, SegmentId, ShardId, SlotId, Timestamp, Version};
use rusqlite::{Row, types::Type};

use crate::words::Word;

type Result<T> = rusqlite::Result<T>;

/// A text that is none of a column's words.
#[derive(Debug, thiserror::Error)]
#[error("column {column} holds {text:?}, which is none of its words")]
pub(crate) struct UnknownWord {
    column: String,
    text: String,
}

/// The failure of a column whose text is none of its words.
pub(crate) fn unknown_word(column: &str, text: String) -> rusqlite::Error {
    mismatch(UnknownWord { column: column.to_owned(), text })
}

/// The failure of a text column that holds something it cannot hold.
pub(crate) fn mismatch(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}

/// An enum, from its word.
pub(crate) fn word<W: Word>(row: &Row<'_>, column: &str) -> Result<W> {
    let text: String = row.get(column)?;
    W::of(&text).ok_or_else(|| unknown_word(column, text))
}

/// A digest, from its 64 hexadecimal digits.
pub(crate) fn digest(row: &Row<'_>, column: &str) -> Result<Digest> {
    row.get::<_, String>(column)?.parse().map_err(mismatch)
}

/// A list of texts, from its JSON text.
pub(crate) fn texts(row: &Row<'_>, column: &str) -> Result<Vec<String>> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(mismatch)
}

/// A list of names, some of which may be lacking, from its JSON text.
pub(crate) fn names(row: &Row<'_>, column: &str) -> Result<Vec<Option<String>>> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(mismatch)
}

/// A list of sizes, from its JSON text.
pub(crate) fn sizes(row: &Row<'_>, column: &str) -> Result<Vec<usize>> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(mismatch)
}

/// A shard.
pub(crate) fn shard(row: &Row<'_>) -> Result<ShardId> {
    row.get("shard").map(ShardId)
}

/// A version.
pub(crate) fn version(row: &Row<'_>, column: &str) -> Result<Version> {
    row.get(column).map(Version)
}

/// A slot, from its two columns.
pub(crate) fn slot(row: &Row<'_>) -> Result<SlotId> {
    Ok(SlotId { segment: SegmentId(row.get("segment")?), index: row.get("slot")? })
}

/// A point in time.
pub(crate) fn timestamp(row: &Row<'_>, column: &str) -> Result<Timestamp> {
    row.get(column).map(Timestamp)
}

/// A duration.
pub(crate) fn duration(row: &Row<'_>, column: &str) -> Result<Duration> {
    row.get(column).map(Duration::from_micros)
}

/// Whole microseconds of a duration, as SQLite keeps them.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A loss or a metric, from its text.
pub(crate) fn term<T: FromStr<Err = InvalidTerm>>(row: &Row<'_>, column: &str) -> Result<T> {
    row.get::<_, String>(column)?.parse().map_err(mismatch)
}

/// A number; NULL stands for what is not one.
pub(crate) fn value(row: &Row<'_>, column: &str) -> Result<f64> {
    Ok(row.get::<_, Option<f64>>(column)?.unwrap_or(f64::NAN))
}

/// A list of numbers, exactly, from their text separated by commas.
pub(crate) fn numbers(row: &Row<'_>, column: &str) -> Result<Vec<f64>> {
    let text: String = row.get(column)?;
    let numbers = text.split(',').filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().map_err(mismatch)).collect()
}

/// The text of a list of numbers.
pub(crate) fn list(numbers: &[f64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The score in `<part>_rows` and `<part>_loss_sum`, without metrics.
pub(crate) fn score(row: &Row<'_>, part: &str) -> Result<Score> {
    let column = |what: &str| format!("{part}_{what}");
    Ok(Score {
        rows: row.get(column("rows").as_str())?,
        loss_sum: value(row, column("loss_sum").as_str())?,
        metrics: Vec::new(),
    })
}
