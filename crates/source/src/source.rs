//! What a source is: rows somewhere, which tell what they are before they are read, and are then opened
//! as a table. One for files of this machine, one for objects of a store, one for PostgreSQL.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use arrow::datatypes::SchemaRef;
use arrowhop_types::Problems;

use crate::error::SourceError;
use crate::formats::{self, Format};
use crate::object::Object;
use crate::packed::PackedSource;
use crate::parquet_file::ParquetFile;
use crate::postgres::{self, PartReport, Request, Server};
use crate::spec::Location;
use crate::table::Table;
use crate::table_filter::{FilteredSource, none_pass};
use crate::workspace::Workspace;

/// What a source tells of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// What it is called in messages.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows; of a table of PostgreSQL as the statistics have them, of a query unknown.
    pub rows: Option<u64>,
    /// Bytes where it lies: of a file, of a table's pages.
    pub bytes: Option<u64>,
    /// What its rows are now; see [`Location::version`].
    pub version: Option<String>,
}

/// Rows somewhere.
pub(crate) trait Source {
    /// What it tells of itself.
    fn describe(&self) -> Result<Description, SourceError>;

    /// As [`Location::version`].
    fn version(&self) -> Result<Option<String>, SourceError>;

    /// Its table; of the columns at least these, else all. What cannot be read row by row is read into the
    /// workspace, and how is reported then.
    fn open(
        &self,
        columns: Option<&[String]>,
        workspace: &Workspace,
    ) -> Result<(Table, Vec<PartReport>), SourceError>;
}

impl Location {
    pub(crate) fn source(&self) -> Box<dyn Source + '_> {
        match self {
            Self::File(path) => Box::new(FileSource(path)),
            Self::Object(url) => Box::new(ObjectSource(url)),
            Self::Postgres { server, request } => Box::new(PostgresSource { server, request }),
            Self::Upload(url) => Box::new(UnfetchedSource(url)),
            Self::Filtered { of, filter } => Box::new(FilteredSource { of, filter }),
            Self::Packed { table, summary } => Box::new(PackedSource { table, summary }),
        }
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Object(url) | Self::Upload(url) => url.clone(),
            Self::Postgres { request, .. } => request.rows.name(),
            Self::Filtered { of, .. } | Self::Packed { table: of, .. } => of.name(),
        }
    }

    /// What is there: columns, rows and bytes, as far as that is known without reading all of it.
    ///
    /// # Errors
    /// When it is not there, or not readable.
    pub fn describe(&self) -> Result<Description, SourceError> {
        self.source().describe()
    }

    /// A text that is another one when any of its rows is: of a file its length and time of change, of an
    /// object its store's tag, of a table of PostgreSQL the snapshot of all transactions. Nothing where
    /// nobody can tell: of a query or a view, or of what other servers hold.
    ///
    /// # Errors
    /// When it is not there, or not readable.
    pub fn version(&self) -> Result<Option<String>, SourceError> {
        self.source().version()
    }
}

/// A file of this machine, or a folder of images.
struct FileSource<'a>(&'a Path);

impl FileSource<'_> {
    fn metadata(&self) -> Result<Metadata, SourceError> {
        self.0.metadata().map_err(|source| SourceError::Read { path: self.0.to_owned(), source })
    }
}

impl Source for FileSource<'_> {
    fn describe(&self) -> Result<Description, SourceError> {
        let (table, _) = self.open(None, &Workspace::in_memory())?;
        let bytes = self.metadata()?;
        Ok(Description {
            name: table.name(),
            schema: table.schema().clone().into(),
            rows: Some(u64::from(table.rows())),
            bytes: bytes.is_file().then_some(bytes.len()),
            version: self.version()?,
        })
    }

    fn version(&self) -> Result<Option<String>, SourceError> {
        let facts = self.metadata()?;
        if facts.is_file() {
            return Ok(Some(stamp(&facts)));
        }
        let read = || -> io::Result<blake3::Hash> {
            let mut hasher = blake3::Hasher::new();
            stamps(self.0, 0, &mut hasher)?;
            Ok(hasher.finalize())
        };
        let hash =
            read().map_err(|source| SourceError::Read { path: self.0.to_owned(), source })?;
        Ok(Some(format!("files {hash}")))
    }

    fn open(
        &self,
        columns: Option<&[String]>,
        workspace: &Workspace,
    ) -> Result<(Table, Vec<PartReport>), SourceError> {
        let name = self.0.display().to_string();
        let table = match Format::of_path(self.0)? {
            Format::Parquet => Table::of_parquet(name, ParquetFile::open(self.0)?, workspace),
            Format::ImageFolder => {
                let (schema, batches) = formats::image_folder(self.0, workspace)?;
                Table::of(name, schema, batches, workspace)?
            }
            format => {
                let cannot =
                    |error| Problems::one(name.clone(), format!("cannot be read: {error}"));
                let bytes = workspace.read(self.0).map_err(cannot)?;
                let (schema, batches) = format.decode(&name, bytes, columns, workspace)?;
                Table::of(name, schema, batches, workspace)?
            }
        };
        Ok((table, Vec::new()))
    }
}

/// What tells a file's content from another.
fn stamp(facts: &Metadata) -> String {
    let changed = facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    format!("{} bytes, changed at {:?}", facts.len(), changed.unwrap_or_default())
}

/// Hashes what tells the files of a folder, and of the folders in it, from others.
fn stamps(folder: &Path, depth: u32, hasher: &mut blake3::Hasher) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let facts = path.metadata()?;
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update(&[0]);
        if facts.is_dir() && depth == 0 {
            stamps(&path, depth + 1, hasher)?;
        } else {
            hasher.update(stamp(&facts).as_bytes());
        }
    }
    Ok(())
}

/// An object of a store.
struct ObjectSource<'a>(&'a str);

impl Source for ObjectSource<'_> {
    fn describe(&self) -> Result<Description, SourceError> {
        let object = Object::find(self.0)?;
        let (bytes, version) = (object.bytes, object.version.clone());
        let (table, _) = self.open(None, &Workspace::in_memory())?;
        Ok(Description {
            name: table.name(),
            schema: table.schema().clone().into(),
            rows: Some(u64::from(table.rows())),
            bytes: Some(bytes),
            version: Some(version),
        })
    }

    fn version(&self) -> Result<Option<String>, SourceError> {
        Ok(Some(Object::find(self.0)?.version))
    }

    /// Of Parquet, only what is read is fetched.
    fn open(
        &self,
        columns: Option<&[String]>,
        workspace: &Workspace,
    ) -> Result<(Table, Vec<PartReport>), SourceError> {
        let url = self.0;
        let object = Object::find(url)?;
        let first = object.range(0..object.bytes.min(Format::FIRST_BYTES));
        let first = first.map_err(|source| SourceError::Object { url: url.to_owned(), source })?;
        let end = url.rsplit_once('.').map_or("", |(_, end)| end);
        let table = match Format::of(&first, end) {
            Format::Parquet => {
                Table::of_parquet(url.to_owned(), ParquetFile::of_object(object)?, workspace)
            }
            format => {
                let bytes = object.whole()?;
                let (schema, batches) = format.decode(url, bytes, columns, workspace)?;
                Table::of(url.to_owned(), schema, batches, workspace)?
            }
        };
        Ok((table, Vec::new()))
    }
}

/// An upload, which is no table before it was fetched.
struct UnfetchedSource<'a>(&'a str);

impl UnfetchedSource<'_> {
    fn refused(&self) -> SourceError {
        let text = "is an upload that was not fetched; name it in an experiment's [data]";
        Problems::one(self.0, text).into()
    }
}

impl Source for UnfetchedSource<'_> {
    fn describe(&self) -> Result<Description, SourceError> {
        Err(self.refused())
    }

    /// Only its supervisor could tell.
    fn version(&self) -> Result<Option<String>, SourceError> {
        Ok(None)
    }

    fn open(
        &self,
        _: Option<&[String]>,
        _: &Workspace,
    ) -> Result<(Table, Vec<PartReport>), SourceError> {
        Err(self.refused())
    }
}

/// Rows of PostgreSQL.
struct PostgresSource<'a> {
    server: &'a Server,
    request: &'a Request,
}

impl Source for PostgresSource<'_> {
    fn describe(&self) -> Result<Description, SourceError> {
        postgres::describe(self.server, self.request)
    }

    fn version(&self) -> Result<Option<String>, SourceError> {
        postgres::version(self.server, self.request)
    }

    fn open(
        &self,
        columns: Option<&[String]>,
        workspace: &Workspace,
    ) -> Result<(Table, Vec<PartReport>), SourceError> {
        let columns = columns.map(<[String]>::to_vec);
        let request = Request { columns, ..self.request.clone() };
        let reading = postgres::read_within(self.server, &request, workspace)?;
        let name = request.rows.name();
        if request.filter.is_some() && reading.parts.iter().all(|part| part.rows == 0) {
            return Err(none_pass(&name).into());
        }
        let table = Table::of(name, reading.schema, reading.batches, workspace)?;
        Ok((table, reading.parts))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;

    use super::*;
    use crate::fixtures::{column, png, write};

    #[test]
    fn a_file_tells_what_it_is_and_when_it_becomes_another() {
        let dir = tempfile::tempdir().unwrap();
        let y = |rows| column("y", Int32Array::from_iter_values(0..rows));
        let location = Location::File(write(dir.path(), "t", &[y(10)]));
        let found = location.describe().unwrap();
        assert_eq!((found.rows, found.schema.field(0).name().as_str()), (Some(10), "y"));
        assert!(found.bytes.unwrap() > 100);
        assert_eq!(location.version().unwrap(), found.version);
        write(dir.path(), "t", &[y(11)]);
        assert_ne!(location.version().unwrap(), found.version);
        let gone = Location::File(dir.path().join("gone"));
        assert!(matches!(gone.version(), Err(SourceError::Read { .. })));
    }

    #[test]
    fn a_folder_of_images_is_another_when_one_of_them_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("cats")).unwrap();
        let file = dir.path().join("cats/1.png");
        fs::write(&file, png(&[1; 4], [2, 2, 1])).unwrap();
        let location = Location::File(dir.path().to_owned());
        let before = location.version().unwrap();
        assert_eq!(location.version().unwrap(), before);
        fs::write(&file, png(&[2; 6], [3, 2, 1])).unwrap();
        assert_ne!(location.version().unwrap(), before);
    }
}
