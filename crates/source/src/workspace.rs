//! What a preparation may use: so much memory for rows, and beyond it files of a folder, which have no
//! names and are gone when they are no longer read.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::ipc::writer::FileWriter;
use arrowhop_mapped::{Scratch, map};
use bytes::Bytes;

use crate::error::SourceError;
use crate::formats;
use crate::progress::Progress;

/// What a preparation may use, and how far it is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workspace {
    beyond: Option<Beyond>,
    /// Bytes of tables that are held in memory.
    held: Arc<AtomicU64>,
    progress: Arc<Progress>,
}

/// Where rows go beyond memory.
#[derive(Debug, Clone)]
struct Beyond {
    memory: u64,
    folder: PathBuf,
}

impl Workspace {
    /// All in memory, however much it is.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { beyond: None, held: Arc::default(), progress: Arc::default() }
    }

    /// About `memory` bytes of rows in memory, of tables and of shards each; more in files below `folder`, which
    /// is made when the first one is.
    #[must_use]
    pub fn bounded(memory: u64, folder: &Path) -> Self {
        let beyond = Some(Beyond { memory, folder: folder.to_owned() });
        Self { beyond, ..Self::in_memory() }
    }

    /// How far the preparation is.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The folder for shards of so many bytes, if they are too many for memory, and how many bytes of them
    /// may be in memory at a time.
    pub(crate) fn beyond(&self, bytes: u64) -> Result<Option<(&Path, u64)>, SourceError> {
        let Some(beyond) = self.beyond.as_ref().filter(|beyond| bytes > beyond.memory) else {
            return Ok(None);
        };
        beyond.make()?;
        Ok(Some((&beyond.folder, beyond.memory)))
    }

    /// Room for values that are too many for memory.
    pub(crate) fn scratch(&self, folder: &Path, bytes: usize) -> Result<Scratch, SourceError> {
        Scratch::new(folder, bytes)
            .map_err(|source| SourceError::Spill { folder: folder.to_owned(), source })
    }

    /// Counts a batch of a table that was read, and moves it out of memory if there are too many.
    pub(crate) fn keep(&self, batch: RecordBatch) -> Result<RecordBatch, SourceError> {
        self.progress.add(batch.num_rows() as u64, bytes_of(&batch))?;
        self.hold(batch)
    }

    /// Moves a batch out of memory if there are too many.
    pub(crate) fn hold(&self, batch: RecordBatch) -> Result<RecordBatch, SourceError> {
        let bytes = bytes_of(&batch);
        let Some(beyond) = &self.beyond else { return Ok(batch) };
        if self.held.fetch_add(bytes, Ordering::Relaxed) + bytes <= beyond.memory {
            return Ok(batch);
        }
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        beyond.make()?;
        spilled(&batch, &beyond.folder)
    }

    /// The bytes of a file that is read as a whole: of one that is too large for memory, mapped.
    pub(crate) fn read(&self, path: &Path) -> std::io::Result<Bytes> {
        let bytes = path.metadata()?.len();
        let is_large = self.beyond.as_ref().is_some_and(|beyond| bytes > beyond.memory);
        if is_large { map(&File::open(path)?) } else { fs::read(path).map(Bytes::from) }
    }
}

impl Beyond {
    /// The folder, where it does not exist yet.
    fn make(&self) -> Result<(), SourceError> {
        let path = &self.folder;
        fs::create_dir_all(path).map_err(|source| SourceError::Write { path: path.clone(), source })
    }
}

/// Bytes of a batch's values; its columns may share their memory.
pub(crate) fn bytes_of(batch: &RecordBatch) -> u64 {
    let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    sizes.map(|size| size.unwrap_or(0) as u64).sum()
}

/// The same batch, its arrays in a file without a name.
fn spilled(batch: &RecordBatch, folder: &Path) -> Result<RecordBatch, SourceError> {
    let spill = |source| SourceError::Spill { folder: folder.to_owned(), source };
    let encode = |source| SourceError::Encode { path: folder.to_owned(), source };
    let file = tempfile::tempfile_in(folder).map_err(spill)?;
    let mut writer = FileWriter::try_new(BufWriter::new(file), &batch.schema()).map_err(encode)?;
    writer.write(batch).map_err(encode)?;
    let mut file = writer.into_inner().map_err(encode)?;
    file.flush().map_err(spill)?;
    let mut file = file.into_inner().map_err(|error| spill(error.into_error()))?;
    file.rewind().map_err(spill)?;
    let bytes = map(&file).map_err(spill)?;
    let (_, batches) = formats::arrow_file(&folder.display().to_string(), bytes)?;
    Ok(batches.into_iter().next().expect("a file of one batch has one"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, StringArray};

    use super::*;

    #[test]
    fn batches_beyond_memory_are_the_same_and_lie_in_files() {
        let folder = tempfile::tempdir().unwrap();
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("ccc")]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None]));
        let batch = RecordBatch::try_from_iter([("t", texts), ("n", numbers)]).unwrap();
        let workspace = Workspace::bounded(bytes_of(&batch), folder.path());
        let address = |batch: &RecordBatch| batch.column(1).to_data().buffers()[0].as_ptr();
        let first = workspace.keep(batch.clone()).unwrap();
        assert_eq!(address(&first), address(&batch));
        let second = workspace.keep(batch.clone()).unwrap();
        assert_ne!(address(&second), address(&batch));
        assert_eq!(second, batch);
        assert_eq!(workspace.progress().glance().rows, 6);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        workspace.progress().stop();
        assert!(matches!(workspace.keep(batch), Err(SourceError::Stopped)));
    }
}
