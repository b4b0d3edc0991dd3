//! Writes shards as files that keep shapes and class names, so that any Arrow reader sees tensors.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrowhop_types::{DataSet, Part, ShardId};

use crate::error::SourceError;
use crate::prepare::PreparedShard;
use crate::shards::shard_schema;
use crate::table_file::{TableFormat, write_table};

/// Writes each shard's parts into `dir`, which is made if need be; returns the files written.
/// A part without rows has no file.
///
/// # Errors
/// [`SourceError::Write`] or [`SourceError::Encode`] with the file concerned.
pub fn write_shards(
    dir: &Path,
    data_set: &DataSet,
    shards: &[PreparedShard],
    format: TableFormat,
) -> Result<Vec<PathBuf>, SourceError> {
    let mut paths = Vec::new();
    for (info, shard) in data_set.shards.iter().zip(shards) {
        for (part, batches) in [(Part::Train, &shard.train), (Part::Validation, &shard.validation)]
        {
            if !batches.is_empty() {
                paths.push(write_shard(dir, data_set, info.shard, part, batches, format)?);
            }
        }
    }
    Ok(paths)
}

/// Writes one part of one shard as `shard-<number>-<part>.<format>` into `dir`, which is made if
/// need be; returns the file's path. Its metadata names the data set and the shard.
///
/// # Errors
/// [`SourceError::Write`] or [`SourceError::Encode`] with the file concerned.
pub fn write_shard(
    dir: &Path,
    data_set: &DataSet,
    shard: ShardId,
    part: Part,
    batches: &[RecordBatch],
    format: TableFormat,
) -> Result<PathBuf, SourceError> {
    fs::create_dir_all(dir)
        .map_err(|source| SourceError::Write { path: dir.to_owned(), source })?;
    let path = dir.join(format!("shard-{shard}-{}.{}", part.name(), format.name()));
    let facts = [
        ("arrowhop.data_set", data_set.id.to_string()),
        ("arrowhop.name", data_set.name.clone()),
        ("arrowhop.shard", shard.to_string()),
        ("arrowhop.preparation", data_set.preparation.clone()),
    ];
    let facts = facts.map(|(key, value)| (key.to_owned(), value)).into();
    let schema = shard_schema(&data_set.inputs, &data_set.targets);
    let schema = Arc::new(Schema::new_with_metadata(schema.fields().clone(), facts));
    write_table(&path, &schema, batches, format)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrowhop_types::Target;

    use super::*;
    use crate::fixtures::{concat, generated_spec, train_of};
    use crate::{
        DataSpec, Inputs, Location, NamedInputs, Origin, Prepared, TableInputs, TargetKind,
        TargetSpec, TensorInputs, prepare,
    };

    #[test]
    fn shards_written_are_read_back_as_the_same_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let prepared = prepare(&DataSpec { shards: 2, ..generated_spec(61, 7) }).unwrap();
        let dir = folder.path().join("new");
        let paths =
            write_shards(&dir, &prepared.data_set, &prepared.shards, TableFormat::Parquet).unwrap();
        let names: Vec<_> =
            paths.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "shard-0-train.parquet",
                "shard-0-validation.parquet",
                "shard-1-train.parquet",
                "shard-1-validation.parquet"
            ]
        );
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 4, "no partial file is left");

        let again = prepare(&DataSpec {
            origin: Origin::Tables {
                train: Location::File(paths[0].clone()),
                validation: None,
                test: None,
                inputs: vec![NamedInputs {
                    name: None,
                    inputs: Inputs::Tensor(TensorInputs {
                        normalize: 255.0,
                        ..TensorInputs::of("x")
                    }),
                }],
                targets: vec![TargetSpec { column: "y".into(), ..TargetSpec::default() }],
            },
            shards: 1,
            ..generated_spec(0, 0)
        })
        .unwrap();
        assert_eq!(again.data_set.inputs, prepared.data_set.inputs);
        assert_eq!(again.data_set.targets, prepared.data_set.targets);
        let written = concat(&prepared.shards[0].train);
        for (row, x, y) in train_of(&again) {
            let (_, written_x, written_y) = &written[usize::try_from(row).unwrap()];
            assert_eq!((&x, &y), (written_x, written_y));
        }
    }

    #[test]
    fn every_format_is_read_back_as_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let prepared = prepare(&DataSpec { shards: 1, ..generated_spec(40, 0) }).unwrap();
        let paths = [TableFormat::Parquet, TableFormat::Arrow, TableFormat::Csv].map(|format| {
            let written = write_shards(folder.path(), &prepared.data_set, &prepared.shards, format);
            written.unwrap().remove(0)
        });
        let ends = paths.each_ref().map(|path| path.extension().unwrap().to_str().unwrap());
        assert_eq!(ends, ["parquet", "arrow", "csv"]);
        let again = |path: &PathBuf, inputs, kind| {
            let origin = Origin::Tables {
                train: Location::File(path.clone()),
                validation: None,
                test: None,
                inputs: vec![NamedInputs { name: None, inputs }],
                targets: vec![TargetSpec { column: "y".into(), kind, ..TargetSpec::default() }],
            };
            prepare(&DataSpec { origin, shards: 1, ..generated_spec(0, 0) }).unwrap()
        };
        let tensor = || Inputs::Tensor(TensorInputs { normalize: 255.0, ..TensorInputs::of("x") });
        let [parquet, arrow] = [0, 1].map(|i| again(&paths[i], tensor(), TargetKind::Auto));
        assert_eq!(parquet.data_set, arrow.data_set);
        assert_eq!(parquet.shards, arrow.shards);
        // A column for each of 256 pixels, and the class by its name.
        let columns = (0..256).map(|i| format!("x_{i}")).collect();
        let table = Inputs::Table(TableInputs { columns: Some(columns), ..TableInputs::default() });
        let csv = again(&paths[2], table, TargetKind::Auto);
        let names = |prepared: &Prepared| match &prepared.data_set.targets[0].target {
            Target::Classes(list) => list.names().iter().cloned().collect::<BTreeSet<_>>(),
            Target::Values(_) => panic!("not classes"),
        };
        assert_eq!(names(&csv), names(&parquet));
        let pixels = |prepared| train_of(prepared).into_iter().map(|(row, x, _)| (row, x));
        assert!(pixels(&csv).eq(pixels(&parquet)));
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 3, "no partial file is left");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let prepared = prepare(&generated_spec(8, 0)).unwrap();
        let dir = file.path().join("below-a-file");
        let error = write_shards(&dir, &prepared.data_set, &prepared.shards, TableFormat::Parquet)
            .unwrap_err();
        assert_eq!(error.to_string(), format!("write {}", dir.display()));
    }
}
