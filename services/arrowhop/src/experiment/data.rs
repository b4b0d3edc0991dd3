//! The `[data]` section.

use std::path::PathBuf;

use arrowhop_source::{DataSpec, Generator, Origin};
use arrowhop_types::Problems;
use toml::Table;

use super::columns;
use super::fields::Fields;

/// Shards where the experiment does not say: as many as the segments of a run in one process.
const SHARDS: u64 = 4;

pub(super) fn read(
    table: Option<Table>,
    name: &str,
    seed: u64,
    problems: &mut Problems,
) -> Option<DataSpec> {
    let Some(table) = table else {
        problems.push("data", "is needed: a [data] section with `train` or `generate`");
        return None;
    };
    let mut fields = Fields::new(table, "data", problems);
    let shards = fields.count("shards", 65_535).unwrap_or(SHARDS);
    let max_rows = fields.count("max_rows", u64::from(u32::MAX));
    let validation_fraction = fields.number("validation_fraction");
    let generate = fields.table("generate");
    let origin = match generate {
        Some(table) => {
            fields.finish();
            generated(table, problems)
        }
        None => parquet(fields),
    };
    Some(DataSpec {
        name: name.to_owned(),
        origin: origin?,
        shards: u32::try_from(shards).expect("at most 65,535"),
        seed,
        max_rows,
        validation_fraction,
    })
}

fn generated(table: Table, problems: &mut Problems) -> Option<Origin> {
    let mut fields = Fields::new(table, "data.generate", problems);
    let kind = fields.choice("kind", &[("shapes", ())]);
    if kind.is_none() {
        fields.wrong("kind", "is needed: \"shapes\"");
    }
    let rows = fields.count("rows", 10_000_000);
    if rows.is_none() {
        fields.wrong("rows", "is needed: how many training rows to make");
    }
    let validation_rows = fields.count("validation_rows", 10_000_000).unwrap_or(0);
    fields.finish();
    kind?;
    Some(Origin::Generated(Generator::Shapes { rows: rows?, validation_rows }))
}

fn parquet(mut fields: Fields<'_>) -> Option<Origin> {
    let train = fields.text("train").map(PathBuf::from);
    if train.is_none() {
        fields.wrong("train", "is needed: a Parquet file, relative to --data or to this file");
    }
    let validation = fields.text("validation").map(PathBuf::from);
    let targets = columns::targets(&mut fields);
    let inputs = columns::inputs(&mut fields);
    fields.finish();
    Some(Origin::Parquet { train: train?, validation, inputs: inputs?, targets: targets? })
}
