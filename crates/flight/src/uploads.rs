//! Tables that clients upload: any Arrow columns, kept as files in Arrow's stream format until they are
//! dropped. A file is written beside its place, synced and renamed, so that it is there whole or not
//! at all; what breaks off leaves nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::RecordBatch;
use arrow_flight::FlightData;
use arrowhop_types::Problems;
use arrowhop_wire::tickets::UploadName;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;

use crate::any_rows::AnyRows;
use crate::front::BrokeOff;
use crate::upload_file::{END, Messages, encapsulated};
use crate::{ByteBudget, FlightError, PutReceipt, Reservation};

/// Ends the names of files that are whole.
const WHOLE: &str = "arrow";
/// Ends the names of files that are being written.
const PART: &str = "part";

/// Runs something such that its panic is an error: how is the process's to say.
pub type Contain = fn(&mut dyn FnMut()) -> Result<(), FlightError>;

/// The uploads in a folder.
#[derive(Debug)]
pub struct Uploads {
    folder: PathBuf,
    budget: Arc<ByteBudget>,
    contain: Contain,
    kept: Mutex<BTreeMap<UploadName, Kept>>,
    /// Parts that were begun, to name the next one.
    begun: AtomicU64,
}

/// A table that is kept.
#[derive(Debug)]
struct Kept {
    schema: Bytes,
    rows: u64,
    reservation: Reservation,
}

/// A table that is kept, as it is listed.
#[derive(Debug, Clone)]
pub(crate) struct UploadListing {
    pub(crate) name: UploadName,
    /// The IPC header of its schema.
    pub(crate) schema: Bytes,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// What arrives of an upload. A channel that is closed before the end is an upload that broke off.
enum Step {
    Message(FlightData),
    End,
}

impl Uploads {
    /// The uploads that `folder` has, and place for more, up to `limit` bytes in all. What is left of
    /// uploads that broke off is removed. Blocks.
    ///
    /// # Errors
    /// [`FlightError::File`], which names the file; [`FlightError::Full`] where more is kept already.
    pub fn open(folder: &Path, limit: u64, contain: Contain) -> Result<Self, FlightError> {
        let failed = |source| FlightError::File { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let budget = ByteBudget::new(limit);
        let mut kept = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let of_file = |source| FlightError::File { path: path.clone(), source };
            let end = path.extension().and_then(|end| end.to_str());
            if end == Some(PART) {
                fs::remove_file(&path).map_err(of_file)?;
            }
            let name = path.file_stem().and_then(|stem| stem.to_str());
            let name = name.and_then(|stem| UploadName::try_from(stem).ok());
            let (Some(WHOLE), Some(name)) = (end, name) else { continue };
            let reservation = budget.reserve(path.metadata().map_err(of_file)?.len())?;
            let (schema, rows) =
                Messages::open(&path).and_then(Messages::survey).map_err(of_file)?;
            kept.insert(name, Kept { schema, rows, reservation });
        }
        let folder = folder.to_owned();
        Ok(Self { folder, budget, contain, kept: Mutex::new(kept), begun: AtomicU64::new(0) })
    }

    /// What is kept, by name.
    pub(crate) fn list(&self) -> Vec<UploadListing> {
        let listing = |(name, kept): (&UploadName, &Kept)| UploadListing {
            name: name.clone(),
            schema: kept.schema.clone(),
            rows: kept.rows,
            bytes: kept.reservation.bytes(),
        };
        self.kept().iter().map(listing).collect()
    }

    /// One of them.
    pub(crate) fn find(&self, name: &UploadName) -> Result<UploadListing, FlightError> {
        let found = self.list().into_iter().find(|listing| listing.name == *name);
        found.ok_or_else(|| missing(name))
    }

    /// Forgets a table. Whoever reads it reads on.
    pub(crate) fn drop_upload(&self, name: &UploadName) -> Result<(), FlightError> {
        let mut kept = self.kept();
        if !kept.contains_key(name) {
            return Err(missing(name));
        }
        let path = self.path(name);
        fs::remove_file(&path).map_err(|source| FlightError::File { path, source })?;
        kept.remove(name);
        Ok(())
    }

    /// Keeps what arrives, once it has arrived whole.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        name: UploadName,
        first: FlightData,
        mut stream: impl Stream<Item = Result<FlightData, Status>> + Unpin,
        broke_off: &BrokeOff,
    ) -> Result<PutReceipt, FlightError> {
        self.check_free(&name)?;
        let (send, steps) = mpsc::channel(1);
        let uploads = Arc::clone(self);
        let writing = tokio::task::spawn_blocking(move || uploads.write(&name, steps));
        let mut message = Some(Ok(first));
        while let Some(arrived) = message {
            let action = "receive an upload";
            let arrived = arrived.map_err(|status| FlightError::Peer { action, status })?;
            if send.send(Step::Message(arrived)).await.is_err() {
                // The writer has a reason, and says it below.
                break;
            }
            message = stream.next().await;
        }
        if !broke_off.has() {
            drop(send.send(Step::End).await);
        }
        drop(send);
        writing.await.expect("writing contains its panics")
    }

    /// Opens a table to be read from its file, message by message. Blocks.
    pub(crate) fn read(&self, name: &UploadName) -> Result<Messages, FlightError> {
        let path = self.path(name);
        Messages::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => missing(name),
            _ => FlightError::File { path, source },
        })
    }

    fn write(
        &self,
        name: &UploadName,
        mut steps: mpsc::Receiver<Step>,
    ) -> Result<PutReceipt, FlightError> {
        let mut writing = Writing::begin(self, name)?;
        while let Some(step) = steps.blocking_recv() {
            match step {
                Step::Message(message) => writing.take(&message, self.contain)?,
                Step::End => return writing.finish(name),
            }
        }
        Err(Problems::one(format!("upload {name}"), "broke off; send it again").into())
    }

    fn check_free(&self, name: &UploadName) -> Result<(), FlightError> {
        if self.kept().contains_key(name) {
            return Err(FlightError::UploadExists { name: name.to_string() });
        }
        Ok(())
    }

    pub(crate) fn path(&self, name: &UploadName) -> PathBuf {
        self.folder.join(format!("{name}.{WHOLE}"))
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<UploadName, Kept>> {
        self.kept.lock().expect("no one panics while holding the uploads")
    }
}

/// A file that is being written; removed when this is dropped, unless it has its place by then.
struct Writing<'a> {
    uploads: &'a Uploads,
    path: PathBuf,
    file: BufWriter<File>,
    rows: AnyRows,
    schema: Option<Bytes>,
    count: u64,
    reservation: Reservation,
}

impl<'a> Writing<'a> {
    fn begin(uploads: &'a Uploads, name: &UploadName) -> Result<Self, FlightError> {
        let number = uploads.begun.fetch_add(1, Ordering::Relaxed);
        let path = uploads.folder.join(format!("{name}.{number}.{PART}"));
        let file = File::create_new(&path);
        let file = file.map_err(|source| FlightError::File { path: path.clone(), source })?;
        Ok(Self {
            uploads,
            path,
            file: BufWriter::new(file),
            rows: AnyRows::default(),
            schema: None,
            count: 0,
            reservation: uploads.budget.reserve(END.len() as u64)?,
        })
    }

    /// Writes a message down when it is known to be sound.
    fn take(&mut self, message: &FlightData, contain: Contain) -> Result<(), FlightError> {
        let mut read: Result<Option<RecordBatch>, Problems> = Ok(None);
        contain(&mut || read = self.rows.read(message))?;
        self.count += read?.map_or(0, |batch| batch.num_rows() as u64);
        if message.data_header.is_empty() {
            return Ok(());
        }
        if self.schema.is_none() {
            self.schema = Some(message.data_header.clone());
        }
        let pieces = encapsulated(&message.data_header, &message.data_body);
        self.reservation.grow(pieces.iter().map(|piece| piece.len() as u64).sum())?;
        let written = pieces.iter().try_for_each(|piece| self.file.write_all(piece));
        written.map_err(|source| self.failed(source))
    }

    /// Gives the file its place.
    fn finish(mut self, name: &UploadName) -> Result<PutReceipt, FlightError> {
        let schema = self.schema.clone();
        let schema = schema.ok_or_else(|| Problems::one(format!("upload {name}"), "is empty"))?;
        let synced = self.file.write_all(END).and_then(|()| self.file.flush());
        let synced = synced.and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|source| self.failed(source))?;
        let mut kept = self.uploads.kept();
        if kept.contains_key(name) {
            return Err(FlightError::UploadExists { name: name.to_string() });
        }
        let placed = fs::rename(&self.path, self.uploads.path(name))
            .and_then(|()| File::open(&self.uploads.folder)?.sync_all());
        placed.map_err(|source| self.failed(source))?;
        let receipt = PutReceipt { rows: self.count, bytes: self.reservation.bytes() };
        let reservation = self.reservation.take();
        kept.insert(name.clone(), Kept { schema, rows: self.count, reservation });
        Ok(receipt)
    }

    fn failed(&self, source: io::Error) -> FlightError {
        FlightError::File { path: self.path.clone(), source }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "part of an upload is left behind");
        }
    }
}

fn missing(name: &UploadName) -> FlightError {
    FlightError::MissingDataSet { name: format!("upload/{name}") }
}
