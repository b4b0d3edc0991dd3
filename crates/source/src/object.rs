//! Objects of a store: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob
//! Storage, HTTP. Who reads, and where, comes from the environment's variables of each, as their own
//! tools take it (`AWS_…`, `GOOGLE_…`, `AZURE_…`).

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use bytes::{Buf, Bytes};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, parse_url_opts};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Runtime;
use url::Url;

use crate::error::SourceError;

/// An object that is read as a whole has at most this many bytes: 16 GiB.
const WHOLE_BYTES_MAX: u64 = 16 << 30;
/// Requests under way at a time, for all objects together, are served by this many threads.
const THREADS: usize = 2;

/// Requests are waited for by threads that are not this runtime's.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(THREADS).thread_name("object-store").enable_all();
    builder.build().expect("a machine that runs this has threads left")
});

/// An object of a known size.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    pub(crate) url: String,
    pub(crate) bytes: u64,
    /// The store's tag of its content, else its length and time of change.
    pub(crate) version: String,
}

impl Object {
    /// Finds an object by its URL: `s3://bucket/key`, `gs://…`, `az://…`, `https://…`.
    pub(crate) fn find(url: &str) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Object { url: url.to_owned(), source };
        let parsed = Url::parse(url)
            .map_err(|source| failed(Error::Generic { store: "URL", source: Box::new(source) }))?;
        let prefixes = ["aws_", "google_", "azure_"];
        let variables = std::env::vars().map(|(key, value)| (key.to_ascii_lowercase(), value));
        let mut options: Vec<(String, String)> = variables
            .filter(|(key, _)| prefixes.iter().any(|prefix| key.starts_with(prefix)))
            .collect();
        if parsed.scheme() == "http" {
            // It was asked for by name.
            options.push(("allow_http".to_owned(), "true".to_owned()));
        }
        let (store, path) = parse_url_opts(&parsed, options).map_err(failed)?;
        let store: Arc<dyn ObjectStore> = store.into();
        let facts = wait(store.head(&path)).map_err(failed)?;
        let version = facts.e_tag.map_or_else(
            || format!("{} bytes, changed at {}", facts.size, facts.last_modified),
            |tag| format!("tag {tag}"),
        );
        Ok(Self { store, path, url: url.to_owned(), bytes: facts.size, version })
    }

    /// All its bytes.
    pub(crate) fn whole(&self) -> Result<Bytes, SourceError> {
        if self.bytes > WHOLE_BYTES_MAX {
            let text =
                format!("has {} bytes; at most {WHOLE_BYTES_MAX} are read as a whole", self.bytes);
            return Err(arrowhop_types::Problems::one(self.url.clone(), text).into());
        }
        self.range(0..self.bytes)
            .map_err(|source| SourceError::Object { url: self.url.clone(), source })
    }

    /// Some of its bytes.
    pub(crate) fn range(&self, range: Range<u64>) -> Result<Bytes, Error> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        wait(self.store.get_range(&self.path, range))
    }

    /// These parts of it, near ones in one request, to be read from memory.
    pub(crate) fn fetch(&self, ranges: &[Range<u64>]) -> ParquetResult<Fetched> {
        let parts = wait(self.store.get_ranges(&self.path, ranges)).map_err(external)?;
        let mut parts: Vec<(u64, Bytes)> =
            ranges.iter().map(|range| range.start).zip(parts).collect();
        parts.sort_unstable_by_key(|(start, _)| *start);
        Ok(Fetched { parts: parts.into(), bytes: self.bytes })
    }
}

/// Waits on a thread of its own: the caller may be one that must not.
fn wait<T: Send>(request: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| RUNTIME.block_on(request));
        answer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn external(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl Length for Object {
    fn len(&self) -> u64 {
        self.bytes
    }
}

/// For a footer, which is read in two requests.
impl ChunkReader for Object {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.range(start..self.bytes).map_err(external)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| ParquetError::EOF(format!("{length} bytes at {start}")))?;
        self.range(start..end).map_err(external)
    }
}

/// Parts of an object, in memory.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    parts: Arc<[(u64, Bytes)]>,
    bytes: u64,
}

impl Fetched {
    /// The bytes from `start` on, to the end of their part.
    fn from(&self, start: u64) -> ParquetResult<Bytes> {
        let missing = || ParquetError::EOF(format!("the bytes at {start} were not asked for"));
        let before = self.parts.partition_point(|(first, _)| *first <= start);
        let (first, bytes) = before.checked_sub(1).map(|i| &self.parts[i]).ok_or_else(missing)?;
        let skip = usize::try_from(start - first).map_err(|_| missing())?;
        if skip > bytes.len() {
            return Err(missing());
        }
        Ok(bytes.slice(skip..))
    }
}

impl Length for Fetched {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Fetched {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::EOF(format!("{length} bytes at {start}")));
        }
        Ok(bytes.slice(..length))
    }
}
