//! Data sets: written once for each id, shared by the runs that use them.

use arrowhop_types::{
    ClassList, DataSet, DataSetId, Encoding, InputSpec, ShardInfo, Target, TargetColumn, TestRows,
};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::CatalogError;
use crate::error::Fault;
use crate::row;
use crate::words::Word;

/// The words of encodings.
const NUMBERS: &str = "numbers";
const TOKENS: &str = "tokens";
const ONE_HOT: &str = "one hot";

/// Records a data set unless it is on record.
pub(crate) fn write(transaction: &Transaction<'_>, data: &DataSet) -> Result<(), Fault> {
    match read(transaction, data.id, data.name.clone())? {
        Some(recorded) if recorded == *data => return Ok(()),
        Some(_) => return Err(CatalogError::DataSetDiffers { data_set: data.id }.into()),
        None => {}
    }
    let id = data.id.to_string();
    transaction
        .prepare_cached(
            "INSERT INTO data_sets (id, rows_digest, preparation, test_rows, test_digest)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            id,
            data.rows_digest.to_string(),
            data.preparation,
            data.test.as_ref().map(|test| test.rows),
            data.test.as_ref().map(|test| test.digest.to_string()),
        ])?;
    write_inputs(transaction, &id, &data.inputs)?;
    write_targets(transaction, &id, &data.targets)?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO data_set_shards (data_set, shard, train_rows, validation_rows, digest)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for info in &data.shards {
        let digest = info.digest.to_string();
        insert.execute(params![id, info.shard.0, info.train_rows, info.validation_rows, digest])?;
    }
    Ok(())
}

fn write_inputs(
    transaction: &Transaction<'_>,
    id: &str,
    inputs: &[InputSpec],
) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO data_set_inputs (data_set, position, name, shape, dtype, encoding, parameter)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (position, input) in inputs.iter().enumerate() {
        let shape = serde_json::json!(input.shape).to_string();
        let (encoding, parameter) = match input.encoding {
            Encoding::Numbers { normalize } => (NUMBERS, f64::from(normalize)),
            Encoding::Tokens { vocabulary } => (TOKENS, f64::from(vocabulary)),
            Encoding::OneHot { width } => (ONE_HOT, f64::from(width)),
        };
        let dtype = input.dtype.word();
        insert.execute(params![id, position, input.name, shape, dtype, encoding, parameter])?;
    }
    Ok(())
}

fn write_targets(
    transaction: &Transaction<'_>,
    id: &str,
    targets: &[TargetColumn],
) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO data_set_targets (data_set, position, name, width, classes)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (position, TargetColumn { name, target }) in targets.iter().enumerate() {
        let classes = match target {
            Target::Classes(list) => Some(serde_json::json!(list.names()).to_string()),
            Target::Values(_) => None,
        };
        insert.execute(params![id, position, name, target.width(), classes])?;
    }
    Ok(())
}

/// The data set on record under an id, by the name it goes by in a run.
pub(crate) fn read(
    transaction: &Transaction<'_>,
    id: DataSetId,
    name: String,
) -> Result<Option<DataSet>, Fault> {
    let head = transaction
        .prepare_cached("SELECT * FROM data_sets WHERE id = ?1")?
        .query_row([id.to_string()], |row| {
            Ok((row::digest(row, "rows_digest")?, row.get("preparation")?, test_rows(row)?))
        })
        .optional()?;
    let Some((rows_digest, preparation, test)) = head else {
        return Ok(None);
    };
    let inputs = transaction
        .prepare_cached("SELECT * FROM data_set_inputs WHERE data_set = ?1 ORDER BY position")?
        .query_map([id.to_string()], input)?
        .collect::<Result<_, _>>()?;
    let targets = transaction
        .prepare_cached("SELECT * FROM data_set_targets WHERE data_set = ?1 ORDER BY position")?
        .query_map([id.to_string()], target)?
        .collect::<Result<_, _>>()?;
    let shards = transaction
        .prepare_cached("SELECT * FROM data_set_shards WHERE data_set = ?1 ORDER BY shard")?
        .query_map([id.to_string()], |row| {
            Ok(ShardInfo {
                shard: row::shard(row)?,
                train_rows: row.get("train_rows")?,
                validation_rows: row.get("validation_rows")?,
                digest: row::digest(row, "digest")?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Some(DataSet { id, name, inputs, targets, shards, test, rows_digest, preparation }))
}

fn test_rows(row: &Row<'_>) -> rusqlite::Result<Option<TestRows>> {
    let Some(rows) = row.get("test_rows")? else { return Ok(None) };
    Ok(Some(TestRows { rows, digest: row::digest(row, "test_digest")? }))
}

fn input(row: &Row<'_>) -> rusqlite::Result<InputSpec> {
    let parameter: f64 = row.get("parameter")?;
    let encoding: String = row.get("encoding")?;
    Ok(InputSpec {
        name: row.get("name")?,
        shape: row::sizes(row, "shape")?,
        dtype: row::word(row, "dtype")?,
        encoding: match encoding.as_str() {
            NUMBERS => Encoding::Numbers { normalize: single(parameter) },
            TOKENS => Encoding::Tokens { vocabulary: whole(parameter) },
            ONE_HOT => Encoding::OneHot { width: whole(parameter) },
            _ => return Err(row::unknown_word("encoding", encoding)),
        },
    })
}

#[expect(clippy::cast_possible_truncation, reason = "it was written from single precision")]
fn single(parameter: f64) -> f32 {
    parameter as f32
}

#[expect(clippy::cast_possible_truncation, reason = "it was written from a u32")]
#[expect(clippy::cast_sign_loss, reason = "it was written from a u32")]
fn whole(parameter: f64) -> u32 {
    parameter as u32
}

fn target(row: &Row<'_>) -> rusqlite::Result<TargetColumn> {
    let target = match row.get::<_, Option<String>>("classes")? {
        Some(_) => Target::Classes(ClassList::new(row::names(row, "classes")?)),
        None => row.get("width").map(Target::Values)?,
    };
    Ok(TargetColumn { name: row.get("name")?, target })
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{Classify, ErrorClass, Timestamp};

    use crate::{Catalog, CatalogError, samples};

    #[test]
    fn a_data_set_is_kept_once_and_its_name_is_the_runs_own() {
        let state = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(state.path()).unwrap();
        let mut spec = samples::spec(1, 3);
        let first = catalog.submit(&spec, Timestamp(0)).unwrap();
        spec.data.name = "another name of it".into();
        let second = catalog.submit(&spec, Timestamp(0)).unwrap();
        assert_eq!(catalog.spec(first).unwrap().data.name, "flowers");
        assert_eq!(catalog.spec(second).unwrap(), spec);
    }

    #[test]
    fn other_content_under_the_same_id_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(state.path()).unwrap();
        let mut spec = samples::spec(1, 3);
        catalog.submit(&spec, Timestamp(0)).unwrap();
        spec.data.shards[1].train_rows += 1;
        let error = catalog.submit(&spec, Timestamp(0)).unwrap_err();
        assert!(
            matches!(error, CatalogError::DataSetDiffers { data_set } if data_set == spec.data.id)
        );
        assert_eq!(error.class(), ErrorClass::Conflict);
        assert_eq!(catalog.runs().unwrap().len(), 1);
    }
}
