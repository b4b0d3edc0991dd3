//! Shards as files of a folder: below it a folder for each data set, by id, with an Arrow IPC file for each
//! part of a shard and the data set's name. What does not fit into memory is served from there, by
//! mapping, and what was put here is found again after a restart.
//!
//! ```text
//! ROOT/DATA SET/00000-train.arrow, 00000-validation.arrow, …, name
//! ```

use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::ipc::Block;
use arrow::ipc::reader::read_footer_length;
use arrow::ipc::writer::FileWriter;
use arrow::record_batch::RecordBatch;
use arrowhop_mapped::map;
use arrowhop_types::{DataSetId, ErrorClass, Part, Problems, ShardId, shard_file};
use arrowhop_wire::tickets::ShardTicket;
use bytes::Bytes;

use crate::decode::decode_footer;
use crate::encode::{IPC_PREFIX_BYTES, bytes_of};
use crate::{ByteBudget, CachedShard, FlightError, ShardListing};

/// The file with a data set's name.
const NAME_FILE: &str = "name";
/// What a data set's folder is called while it is made.
const NEW_PREFIX: &str = ".new-";
/// A folder that is being made and has had no new file for so long was left by a process that died.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// The footer's length and the magic at a file's end.
const TAIL_BYTES: usize = 10;

/// A folder with shards.
#[derive(Debug, Clone)]
pub struct ShardFolder {
    root: PathBuf,
    bytes_max: u64,
}

/// A data set of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEntry {
    /// Which.
    pub data_set: DataSetId,
    /// Where.
    pub folder: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was last used.
    pub used_at: SystemTime,
}

impl ShardFolder {
    /// A folder, which need not exist yet, for data sets of so many bytes together.
    #[must_use]
    pub fn new(root: PathBuf, bytes_max: u64) -> Self {
        Self { root, bytes_max }
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a data set's files are, or would be.
    #[must_use]
    pub fn of(&self, data_set: DataSetId) -> PathBuf {
        self.root.join(data_set.to_string())
    }

    /// Its data sets, by id.
    ///
    /// # Errors
    /// When the folder cannot be read; one that does not exist has none.
    pub fn entries(&self) -> Result<Vec<FolderEntry>, FlightError> {
        let read = || -> io::Result<Vec<FolderEntry>> {
            let mut entries = Vec::new();
            for found in fs::read_dir(&self.root)? {
                let folder = found?.path();
                let name = folder.file_name().and_then(|name| name.to_str());
                let Some(digest) = name.and_then(|name| name.parse().ok()) else { continue };
                match entry(DataSetId(digest), folder) {
                    Ok(entry) => entries.push(entry),
                    // It is just being made, or removed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            entries.sort_unstable_by_key(|entry| entry.data_set);
            Ok(entries)
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            result => result.map_err(failed("list a folder of shards")),
        }
    }

    /// The parts of shards that it has. Files that are none are left out, after a warning.
    ///
    /// # Errors
    /// As [`ShardFolder::entries`].
    pub fn list(&self) -> Result<Vec<ShardListing>, FlightError> {
        let mut listings = Vec::new();
        for FolderEntry { data_set, folder, .. } in self.entries()? {
            let files = fs::read_dir(&folder).map_err(failed("list a data set's folder"))?;
            for file in files {
                let path = file.map_err(failed("list a data set's folder"))?.path();
                let Some((shard, part)) = part_of(&path) else { continue };
                let ticket = ShardTicket { data_set, shard, part };
                match self.listing(ticket) {
                    Ok(listing) => listings.push(listing),
                    Err(error) => {
                        let (path, error) = (path.display(), error.to_string());
                        tracing::warn!(%path, error, "a file of shards is left out");
                    }
                }
            }
        }
        listings.sort_unstable_by_key(|listing| listing.shard);
        Ok(listings)
    }

    /// One part of a shard, as it is listed.
    fn listing(&self, shard: ShardTicket) -> Result<ShardListing, FlightError> {
        let content = self.mapped(shard)?;
        Ok(ShardListing {
            shard,
            name: self.name(shard.data_set)?,
            rows: content.rows(),
            bytes: content.bytes(),
            schema: Arc::clone(content.schema()),
        })
    }

    /// The name of a data set that it has.
    ///
    /// # Errors
    /// When it has no such data set, or cannot be read.
    pub fn name(&self, data_set: DataSetId) -> Result<String, FlightError> {
        fs::read_to_string(self.of(data_set).join(NAME_FILE))
            .map_err(failed("read a data set's name"))
    }

    /// Notes that a data set is used now: others are removed before it.
    pub fn touch(&self, data_set: DataSetId) {
        let file = File::options().append(true).open(self.of(data_set).join(NAME_FILE));
        // A data set that seems older than it is may be made again.
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// A part of a shard: in memory, where the budget has room for it, else mapped.
    ///
    /// # Errors
    /// [`FlightError::MissingShard`], or [`FlightError::Invalid`] when its file is not a shard.
    pub fn open(
        &self,
        shard: ShardTicket,
        budget: &Arc<ByteBudget>,
    ) -> Result<CachedShard, FlightError> {
        let mapped = self.mapped(shard)?;
        let Ok(reservation) = budget.reserve(mapped.bytes()) else { return Ok(mapped) };
        let read = || -> io::Result<Buffer> {
            let mut file = File::open(self.path(shard))?;
            let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
            let mut bytes = MutableBuffer::from_len_zeroed(length);
            file.read_exact(&mut bytes)?;
            Ok(bytes.into())
        };
        let bytes = read().map_err(failed("read a shard's file"))?;
        Ok(decoded(&self.path(shard), bytes)?.hold(reservation))
    }

    fn mapped(&self, shard: ShardTicket) -> Result<CachedShard, FlightError> {
        let path = self.path(shard);
        match File::open(&path).and_then(|file| map(&file)) {
            Ok(bytes) => decoded(&path, Buffer::from(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(FlightError::MissingShard(shard))
            }
            Err(error) => Err(failed("map a shard's file")(error)),
        }
    }

    fn path(&self, ShardTicket { data_set, shard, part }: ShardTicket) -> PathBuf {
        self.of(data_set).join(shard_file(shard, part))
    }

    /// Begins to write a part of a shard of at most so many bytes. It is there when it was finished.
    ///
    /// # Errors
    /// [`FlightError::Full`] when it has no room for them, though all data sets were removed that are not
    /// `in_use`; or when it cannot be written to.
    pub(crate) fn write(
        &self,
        shard: ShardTicket,
        name: &str,
        bytes: u64,
        in_use: &[DataSetId],
    ) -> Result<NewShardFile, FlightError> {
        let in_use = [&[shard.data_set], in_use].concat();
        self.make_room(bytes, &in_use)?;
        let folder = self.of(shard.data_set);
        let make = || -> io::Result<_> {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(NAME_FILE), name)?;
            tempfile::Builder::new().prefix(NEW_PREFIX).tempfile_in(&folder)
        };
        let file = make().map_err(failed("make a shard's file"))?;
        Ok(NewShardFile { path: self.path(shard), file: Some(file), writer: None })
    }

    /// Removes the data sets that were not used for the longest time, until so many bytes have room. Those
    /// `in_use` stay.
    ///
    /// # Errors
    /// [`FlightError::Full`] when that does not make room.
    pub fn make_room(&self, bytes: u64, in_use: &[DataSetId]) -> Result<(), FlightError> {
        self.sweep();
        let mut entries = self.entries()?;
        entries.sort_unstable_by_key(|entry| entry.used_at);
        let mut used: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let free = entries.into_iter().filter(|entry| !in_use.contains(&entry.data_set));
        for FolderEntry { folder, bytes: held, .. } in free {
            if used.saturating_add(bytes) <= self.bytes_max {
                break;
            }
            tracing::info!(folder = %folder.display(), "removing shards that were not used lately");
            fs::remove_dir_all(&folder).map_err(failed("remove a data set's folder"))?;
            used -= held;
        }
        if used.saturating_add(bytes) > self.bytes_max {
            return Err(FlightError::Full { wanted: bytes, used, limit: self.bytes_max });
        }
        Ok(())
    }

    /// Removes what processes that died left half made; what cannot be removed is left for another time.
    fn sweep(&self) {
        for found in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let is_new = found.file_name().to_str().is_some_and(|it| it.starts_with(NEW_PREFIX));
            let changed = found.metadata().and_then(|facts| facts.modified());
            let age = changed.ok().and_then(|at| at.elapsed().ok());
            if is_new && age.is_some_and(|age| age > ABANDONED_AFTER) {
                let folder = found.path();
                tracing::info!(folder = %folder.display(), "removing shards that were left half made");
                let _ = fs::remove_dir_all(folder);
            }
        }
    }

    /// Removes a data set; says whether it was there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, data_set: DataSetId) -> Result<bool, FlightError> {
        match fs::remove_dir_all(self.of(data_set)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("remove a data set's folder")(error)),
        }
    }
}

fn entry(data_set: DataSetId, folder: PathBuf) -> io::Result<FolderEntry> {
    let mut bytes = 0;
    for file in fs::read_dir(&folder)? {
        bytes += file?.metadata()?.len();
    }
    let used_at = folder.join(NAME_FILE).metadata()?.modified()?;
    Ok(FolderEntry { data_set, folder, bytes, used_at })
}

/// A part of a shard that is being written. Dropped before it is finished, it leaves nothing.
pub(crate) struct NewShardFile {
    path: PathBuf,
    file: Option<tempfile::NamedTempFile>,
    writer: Option<FileWriter<BufWriter<tempfile::NamedTempFile>>>,
}

impl NewShardFile {
    /// Writes the next batch. Blocking.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), FlightError> {
        if let Some(file) = self.file.take() {
            self.writer = Some(FileWriter::try_new(BufWriter::new(file), &batch.schema())?);
        }
        self.writer.as_mut().expect("it was just made").write(batch)?;
        Ok(())
    }

    /// Completes it; it is on the disk then. Blocking.
    pub(crate) fn finish(self) -> Result<(), FlightError> {
        let Some(writer) = self.writer else {
            return Err(Problems::one("shard", "has no rows").into());
        };
        let file = writer.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error);
        let placed = file.and_then(|file| {
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)
        });
        placed.map(drop).map_err(failed("write a shard's file"))
    }
}

/// A file's bytes as a shard: heads of their own, bodies where they lie.
fn decoded(path: &Path, bytes: Buffer) -> Result<CachedShard, FlightError> {
    let wrong = |text: &str| Problems::one(path.display().to_string(), text);
    let cut = || wrong("is no file of a shard, or cut short; remove it");
    let end = bytes.len().checked_sub(TAIL_BYTES).ok_or_else(cut)?;
    let tail = bytes[end..].try_into().expect("ten bytes");
    let length = read_footer_length(tail).map_err(|_| cut())?;
    let start = end.checked_sub(length).ok_or_else(cut)?;
    let (schema, blocks) = decode_footer(&bytes[start..end])?;
    let mut shard = CachedShard::empty(Arc::new(schema))?;
    for block in blocks {
        let (header, body) = message(&bytes, &block).ok_or_else(cut)?;
        shard.push_body(&header, bytes_of(body))?;
    }
    Ok(shard)
}

/// The header and the body of a block, if the file has them.
fn message(bytes: &Buffer, block: &Block) -> Option<(Bytes, Buffer)> {
    let start = usize::try_from(block.offset()).ok()?;
    let head = usize::try_from(block.metaDataLength()).ok()?;
    let body = usize::try_from(block.bodyLength()).ok()?;
    let (head_end, head_start) = (start.checked_add(head)?, start.checked_add(IPC_PREFIX_BYTES)?);
    head_end.checked_add(body).filter(|end| *end <= bytes.len())?;
    let header = bytes.get(head_start..head_end)?;
    Some((Bytes::copy_from_slice(header), bytes.slice_with_length(head_end, body)))
}

/// Which part of which shard a file is by its name.
fn part_of(path: &Path) -> Option<(ShardId, Part)> {
    let (number, part) = path.file_name()?.to_str()?.strip_suffix(".arrow")?.split_once('-')?;
    let part = [Part::Train, Part::Validation].into_iter().find(|known| known.name() == part)?;
    let shard = ShardId(number.parse().ok()?);
    (path.file_name()?.to_str()? == shard_file(shard, part)).then_some((shard, part))
}

/// Runs what waits for the disk, off the threads that serve.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FlightError> + Send + 'static,
) -> Result<T, FlightError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A disk's failure.
fn failed(action: &'static str) -> impl Fn(io::Error) -> FlightError {
    move |source| {
        let class = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorClass::Overloaded,
            _ => ErrorClass::Unavailable,
        };
        FlightError::Store { action, class, source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, FixedSizeListArray, Int32Array, UInt8Array, UInt64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrowhop_types::Digest;

    use super::*;

    fn batch(rows: u64) -> RecordBatch {
        let item = Arc::new(Field::new_list_field(DataType::UInt8, true));
        let tensor = [
            ("ARROW:extension:name", "arrow.fixed_shape_tensor"),
            ("ARROW:extension:metadata", r#"{"shape":[100]}"#),
        ];
        let tensor = tensor.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let list = DataType::FixedSizeList(Arc::clone(&item), 100);
        let schema = Schema::new(vec![
            Field::new("row", DataType::UInt64, false),
            Field::new("x", list, false).with_metadata(tensor),
            Field::new("y", DataType::Int32, false),
        ]);
        let count = usize::try_from(rows).unwrap();
        let x = Arc::new(UInt8Array::from(vec![7; 100 * count])) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(0..rows)),
            Arc::new(FixedSizeListArray::new(item, 100, x, None)),
            Arc::new(Int32Array::from(vec![1; count])),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn ticket(data_set: u8, shard: u32) -> ShardTicket {
        let data_set = DataSetId(Digest([data_set; 32]));
        ShardTicket { data_set, shard: ShardId(shard), part: Part::Train }
    }

    fn put(folder: &ShardFolder, shard: ShardTicket, rows: &[u64]) -> Result<(), FlightError> {
        let bytes = rows.iter().sum::<u64>() * 112;
        let mut file = folder.write(shard, "flowers", bytes, &[])?;
        for rows in rows {
            file.push(&batch(*rows))?;
        }
        file.finish()
    }

    #[test]
    fn a_shard_is_read_into_memory_where_it_fits_and_mapped_where_not() {
        let root = tempfile::tempdir().unwrap();
        let folder = ShardFolder::new(root.path().join("shards"), u64::MAX);
        assert!(folder.list().unwrap().is_empty());
        put(&folder, ticket(1, 0), &[50, 50, 3]).unwrap();
        put(&folder, ticket(1, 1), &[50]).unwrap();
        let listed = folder.list().unwrap();
        let shown: Vec<_> = listed.iter().map(|l| (l.shard, &*l.name, l.rows)).collect();
        assert_eq!(shown, [(ticket(1, 0), "flowers", 103), (ticket(1, 1), "flowers", 50)]);

        let budget = ByteBudget::new(listed[0].bytes);
        let memory = folder.open(ticket(1, 0), &budget).unwrap();
        assert_eq!(budget.used(), listed[0].bytes);
        let mapped = folder.open(ticket(1, 0), &budget).unwrap();
        assert_eq!(budget.used(), listed[0].bytes);
        for (one, other) in memory.batches().iter().zip(mapped.batches()) {
            assert_eq!(one.batch, other.batch);
            assert_eq!((&one.head, &one.body), (&other.head, &other.body));
        }
        let encoded = CachedShard::encode(batch(1).schema(), [50, 50, 3].map(batch)).unwrap();
        let wire = |shard: CachedShard| Arc::new(shard).frames().collect::<Vec<_>>().concat();
        assert_eq!(wire(mapped), wire(encoded), "what is served is what was put");
        drop(memory);
        assert_eq!(budget.used(), 0);
        let missing = folder.open(ticket(1, 2), &budget).unwrap_err();
        assert!(matches!(missing, FlightError::MissingShard(_)), "{missing}");
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room_and_what_is_in_use_stays() {
        let root = tempfile::tempdir().unwrap();
        let folder = ShardFolder::new(root.path().to_owned(), 40_000);
        for data_set in 1..=3 {
            put(&folder, ticket(data_set, 0), &[100]).unwrap();
            let name = folder.of(ticket(data_set, 0).data_set).join(NAME_FILE);
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(data_set));
            File::options().append(true).open(name).unwrap().set_modified(at).unwrap();
        }
        folder.touch(ticket(1, 0).data_set);
        folder.make_room(10_000, &[ticket(2, 0).data_set]).unwrap();
        let left: Vec<_> = folder.entries().unwrap().iter().map(|e| e.data_set.0.0[0]).collect();
        assert_eq!(left, [1, 2]);
        let (left, going_on) = (root.path().join(".new-a"), root.path().join(".new-b"));
        for new in [&left, &going_on] {
            fs::create_dir(new).unwrap();
        }
        let long_ago = SystemTime::now() - 2 * ABANDONED_AFTER;
        File::open(&left).unwrap().set_modified(long_ago).unwrap();
        folder.make_room(0, &[]).unwrap();
        assert!(!left.exists() && going_on.exists());
        let unnamed = folder.of(ticket(9, 0).data_set);
        fs::create_dir(&unnamed).unwrap();
        assert_eq!(folder.entries().unwrap().len(), 2, "one that is being made is none yet");
        let full = folder.make_room(30_000, &[ticket(2, 0).data_set]).unwrap_err();
        assert!(matches!(full, FlightError::Full { wanted: 30_000, .. }), "{full}");
        assert!(folder.remove(ticket(2, 0).data_set).unwrap());
        assert!(!folder.remove(ticket(2, 0).data_set).unwrap());
    }

    #[test]
    fn what_was_not_finished_leaves_nothing_and_damage_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let folder = ShardFolder::new(root.path().to_owned(), u64::MAX);
        let mut file = folder.write(ticket(1, 0), "flowers", 1_000, &[]).unwrap();
        file.push(&batch(5)).unwrap();
        drop(file);
        assert!(folder.list().unwrap().is_empty());
        put(&folder, ticket(1, 0), &[40, 40, 9]).unwrap();
        let path = folder.path(ticket(1, 0));
        let whole = fs::read(&path).unwrap();
        let budget = ByteBudget::new(u64::MAX);
        for cut in (0..whole.len()).step_by(97) {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(folder.open(ticket(1, 0), &budget).is_err(), "cut at {cut}");
        }
        for at in (0..whole.len()).step_by(31) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x5a;
            fs::write(&path, bytes).unwrap();
            let _ = folder.open(ticket(1, 0), &budget);
        }
        assert_eq!(budget.used(), 0);
    }
}
