//! Shards as files of a folder: for each part of a shard an Arrow IPC file, uncompressed, that is read by
//! mapping it. What is kept for later runs, and what segments serve, has this form.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::ipc::writer::FileWriter;
use arrowhop_mapped::map;
use arrowhop_types::{DataSet, Part, Problems, ShardId, shard_file};

use crate::error::SourceError;
use crate::formats;
use crate::prepare::{Prepared, PreparedShard};
use crate::shards::shard_schema;

/// Writes shards, one file after the other.
pub(crate) struct ShardFiles<'a> {
    folder: &'a Path,
    open: Option<(PathBuf, FileWriter<BufWriter<File>>)>,
}

impl<'a> ShardFiles<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        Self { folder, open: None }
    }

    /// Writes the next batch. Those of one part of a shard come one after the other.
    pub(crate) fn push(
        &mut self,
        shard: u32,
        part: Part,
        batch: &RecordBatch,
    ) -> Result<(), SourceError> {
        let path = self.folder.join(shard_file(ShardId(shard), part));
        if self.open.as_ref().is_none_or(|(open, _)| *open != path) {
            self.finish()?;
            let file = File::create_new(&path)
                .map_err(|source| SourceError::Write { path: path.clone(), source })?;
            let writer = FileWriter::try_new(BufWriter::new(file), &batch.schema())
                .map_err(|source| SourceError::Encode { path: path.clone(), source })?;
            self.open = Some((path, writer));
        }
        let (path, writer) = self.open.as_mut().expect("it was just opened");
        writer.write(batch).map_err(|source| SourceError::Encode { path: path.clone(), source })
    }

    /// Completes the last file. All of them are on the disk then.
    pub(crate) fn finish(&mut self) -> Result<(), SourceError> {
        let Some((path, writer)) = self.open.take() else { return Ok(()) };
        let file = writer
            .into_inner()
            .map_err(|source| SourceError::Encode { path: path.clone(), source })?;
        let synced = file.into_inner().map_err(std::io::IntoInnerError::into_error);
        let synced = synced.and_then(|file| file.sync_all());
        synced.map_err(|source| SourceError::Write { path, source })
    }
}

/// The shards of a data set, from its folder. Nothing is read before it is looked at.
pub(crate) fn open_shards(
    folder: &Path,
    data_set: &DataSet,
) -> Result<Vec<PreparedShard>, SourceError> {
    let schema = shard_schema(&data_set.inputs, &data_set.targets);
    let open = |shard: ShardId, part: Part, rows: u64| -> Result<Vec<RecordBatch>, SourceError> {
        if rows == 0 {
            return Ok(Vec::new());
        }
        let path = folder.join(shard_file(shard, part));
        let bytes = File::open(&path).and_then(|file| map(&file));
        let bytes = bytes.map_err(|source| SourceError::Read { path: path.clone(), source })?;
        let place = path.display().to_string();
        let (found, batches) = formats::arrow_file(&place, bytes)?;
        let found_rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        if found != schema || found_rows != rows {
            let text = "is not the shard that its folder's data set has; remove the folder";
            return Err(Problems::one(place, text).into());
        }
        Ok(batches)
    };
    let shard = |info: &arrowhop_types::ShardInfo| {
        Ok(PreparedShard {
            train: open(info.shard, Part::Train, info.train_rows)?,
            validation: open(info.shard, Part::Validation, info.validation_rows)?,
        })
    };
    data_set.shards.iter().map(shard).collect()
}

impl Prepared {
    /// A data set that was kept in a folder.
    ///
    /// # Errors
    /// [`SourceError::Read`] or [`SourceError::Input`] where a file of it is missing or is not the shard.
    pub fn open(folder: &Path, data_set: DataSet) -> Result<Self, SourceError> {
        let shards = open_shards(folder, &data_set)?;
        Ok(Self { data_set, shards, sources: Vec::new(), files: None })
    }

    /// Keeps the data set as `root/ID`, with these other files beside its shards, and reads it from there.
    /// The folder appears under its name when all of it is on the disk; one that is there stays.
    ///
    /// # Errors
    /// [`SourceError::Write`] or [`SourceError::Encode`] where it cannot be written; nothing of it is
    /// left then.
    pub fn keep(self, root: &Path, beside: &[(&str, Vec<u8>)]) -> Result<Self, SourceError> {
        let folder = root.join(self.data_set.id.to_string());
        let cannot = |path: &Path| {
            let path = path.to_owned();
            move |source| SourceError::Write { path, source }
        };
        if !folder.is_dir() {
            fs::create_dir_all(root).map_err(cannot(root))?;
            let new = match self.files.and_then(std::sync::Arc::into_inner) {
                Some(made) if made.path().parent() == Some(root) => made,
                _ => {
                    let new = tempfile::Builder::new().prefix(".new-").tempdir_in(root);
                    let new = new.map_err(cannot(root))?;
                    write(new.path(), &self.shards)?;
                    new
                }
            };
            for (name, bytes) in beside {
                let path = new.path().join(name);
                let written = File::create_new(&path)
                    .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
                written.map_err(cannot(&path))?;
            }
            let synced = File::open(new.path()).and_then(|folder| folder.sync_all());
            synced.map_err(cannot(new.path()))?;
            match fs::rename(new.path(), &folder) {
                Ok(()) => drop(new.keep()),
                // Somebody else kept it meanwhile.
                Err(_) if folder.is_dir() => {}
                Err(error) => return Err(cannot(&folder)(error)),
            }
        }
        let kept = Self::open(&folder, self.data_set)?;
        Ok(Self { sources: self.sources, ..kept })
    }
}

fn write(folder: &Path, shards: &[PreparedShard]) -> Result<(), SourceError> {
    let mut files = ShardFiles::new(folder);
    for (number, shard) in (0..).zip(shards) {
        for (part, batches) in [(Part::Train, &shard.train), (Part::Validation, &shard.validation)]
        {
            for batch in batches {
                files.push(number, part, batch)?;
            }
        }
    }
    files.finish()
}
