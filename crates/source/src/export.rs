//! Writes shards as Parquet files that keep shapes and class names, so that any Arrow reader
//! sees tensors. A file appears under its name only when it is complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrowhop_types::{DataSet, Part, ShardId};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::SourceError;
use crate::prepare::PreparedShard;
use crate::shards::shard_schema;

/// Writes each shard's parts into `dir`, which is made if need be; returns the files written.
/// A part without rows has no file.
///
/// # Errors
/// [`SourceError::Write`] or [`SourceError::WriteParquet`] with the file concerned.
pub fn write_shards(
    dir: &Path,
    data_set: &DataSet,
    shards: &[PreparedShard],
) -> Result<Vec<PathBuf>, SourceError> {
    let mut paths = Vec::new();
    for (info, shard) in data_set.shards.iter().zip(shards) {
        for (part, batches) in [(Part::Train, &shard.train), (Part::Validation, &shard.validation)]
        {
            if !batches.is_empty() {
                paths.push(write_shard(dir, data_set, info.shard, part, batches)?);
            }
        }
    }
    Ok(paths)
}

/// Writes one part of one shard as `shard-<number>-<part>.parquet` into `dir`, which is made if
/// need be; returns the file's path. Its metadata names the data set and the shard.
///
/// # Errors
/// [`SourceError::Write`] or [`SourceError::WriteParquet`] with the file concerned.
pub fn write_shard(
    dir: &Path,
    data_set: &DataSet,
    shard: ShardId,
    part: Part,
    batches: &[RecordBatch],
) -> Result<PathBuf, SourceError> {
    fs::create_dir_all(dir).map_err(write_error(dir))?;
    let name = format!("shard-{shard}-{}.parquet", part.name());
    let (path, partial) = (dir.join(&name), dir.join(format!(".{name}.{}", std::process::id())));
    let file = File::create(&partial).map_err(write_error(&partial))?;
    let written = write_file(&file, data_set, shard, batches)
        .map_err(|source| SourceError::WriteParquet { path: path.clone(), source })
        .and_then(|()| file.sync_all().map_err(write_error(&path)))
        .and_then(|()| fs::rename(&partial, &path).map_err(write_error(&path)));
    if let Err(error) = written {
        // The partial file is worthless; that it could not be removed matters less than the error.
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    Ok(path)
}

fn write_error(path: &Path) -> impl FnOnce(std::io::Error) -> SourceError {
    let path = path.to_owned();
    |source| SourceError::Write { path, source }
}

fn write_file(
    file: &File,
    data_set: &DataSet,
    shard: ShardId,
    batches: &[RecordBatch],
) -> Result<(), parquet::errors::ParquetError> {
    let facts = [
        ("arrowhop.data_set", data_set.id.to_string()),
        ("arrowhop.name", data_set.name.clone()),
        ("arrowhop.shard", shard.to_string()),
        ("arrowhop.preparation", data_set.preparation.clone()),
    ];
    let facts = facts.map(|(key, value)| KeyValue::new(key.to_owned(), value)).to_vec();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        // Elements of tensors have nothing to gain from a dictionary or from page statistics.
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(facts))
        .build();
    let schema = shard_schema(&data_set.inputs, &data_set.targets);
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{concat, generated_spec, train_of};
    use crate::{DataSpec, Inputs, Location, NamedInputs, Origin, TargetKind, TargetSpec, prepare};

    #[test]
    fn shards_written_are_read_back_as_the_same_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let prepared = prepare(&DataSpec { shards: 2, ..generated_spec(61, 7) }).unwrap();
        let dir = folder.path().join("new");
        let paths = write_shards(&dir, &prepared.data_set, &prepared.shards).unwrap();
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
                inputs: vec![NamedInputs {
                    name: None,
                    inputs: Inputs::Tensor { column: "x".into(), shape: None, normalize: 255.0 },
                }],
                targets: vec![TargetSpec {
                    name: None,
                    column: "y".into(),
                    kind: TargetKind::Auto,
                }],
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
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let prepared = prepare(&generated_spec(8, 0)).unwrap();
        let dir = file.path().join("below-a-file");
        let error = write_shards(&dir, &prepared.data_set, &prepared.shards).unwrap_err();
        assert_eq!(error.to_string(), format!("write {}", dir.display()));
    }
}
