//! Data sets that were prepared once, kept in the state folder for later runs: found again while their
//! sources are what they were.
//!
//! ```text
//! STATE/data/ID/  about.json      what it was made of, when, and from which versions of its sources
//!                 data_set.pb     what it is (schemas/control.proto, DataSet)
//!                 name, 00000-train.arrow, …   as arrowhop_flight::ShardFolder has them
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use arrowhop_flight::{FlightError, FolderEntry, ShardFolder};
use arrowhop_source::{DataSpec, Origin, Prepared, SourceError};
use arrowhop_types::{DataSet, DataSetId, Problems, SourceRecord};
use arrowhop_wire::{decode_data_set, encode_data_set};
use serde::{Deserialize, Serialize};

use crate::progress::say;

const ABOUT: &str = "about.json";
const DATA_SET: &str = "data_set.pb";
const NAME: &str = "name";
/// Another version of these files, or of what preparing does, is not found.
const FORMAT: u32 = 1;

/// The data sets of a state folder.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    folder: ShardFolder,
}

/// What a kept data set was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    format: u32,
    /// blake3 of the specification, the program's version and the sources' versions; nothing where a source
    /// does not tell its own.
    key: Option<String>,
    /// How each source was read, and which version of it.
    pub(crate) sources: Vec<SourceAbout>,
    /// Seconds since 1970.
    pub(crate) prepared_at: u64,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceAbout {
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) version: String,
    pub(crate) way: String,
    pub(crate) digest: Option<String>,
}

impl From<SourceRecord> for SourceAbout {
    fn from(SourceRecord { name, rows, version, way, digest }: SourceRecord) -> Self {
        Self { name, rows, version, way, digest: digest.map(|digest| digest.to_string()) }
    }
}

impl From<SourceAbout> for SourceRecord {
    fn from(SourceAbout { name, rows, version, way, digest }: SourceAbout) -> Self {
        Self { name, rows, version, way, digest: digest.and_then(|digest| digest.parse().ok()) }
    }
}

/// What there is under a key, as far as sources tell.
pub(crate) struct Versions {
    key: Option<String>,
}

/// A data set that is kept.
pub(crate) struct KeptSet {
    pub(crate) entry: FolderEntry,
    pub(crate) about: About,
    pub(crate) data_set: DataSet,
}

impl Versions {
    /// Asks the sources of a specification.
    ///
    /// # Errors
    /// When one is not there.
    pub(crate) fn of(spec: &DataSpec) -> Result<Self, SourceError> {
        let mut versions = Vec::new();
        if let Origin::Tables { train, validation, test, .. } = &spec.origin {
            let all = [Some(train), validation.as_ref(), test.as_ref()];
            for location in all.into_iter().flatten() {
                versions.push(location.version()?);
            }
        }
        let versions: Option<Vec<String>> = versions.into_iter().collect();
        // Every field of a specification shows in its debugging text, passwords by their absence.
        let key = versions.map(|versions| {
            let program = env!("CARGO_PKG_VERSION");
            let text = format!("{FORMAT} {program} {spec:?} {versions:?}");
            blake3::hash(text.as_bytes()).to_string()
        });
        Ok(Self { key })
    }
}

impl Kept {
    /// Those of a state folder, of so many bytes together.
    pub(crate) fn new(state: &Path, bytes_max: u64) -> Self {
        Self { folder: ShardFolder::new(state.join("data"), bytes_max) }
    }

    /// Those of a state folder, none of which is written.
    pub(crate) fn of(state: &Path) -> Self {
        Self::new(state, u64::MAX)
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> &ShardFolder {
        &self.folder
    }

    /// All of them, by id. Folders with shards alone, of a segment, are none.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<KeptSet>> {
        let entries = self.folder.entries()?.into_iter();
        let read = |entry: FolderEntry| {
            let text = fs::read_to_string(entry.folder.join(ABOUT)).ok()?;
            let about: About = serde_json::from_str(&text).ok()?;
            let data_set = read_data_set(&entry.folder).ok()?;
            (about.format == FORMAT).then_some(KeptSet { entry, about, data_set })
        };
        Ok(entries.filter_map(read).collect())
    }

    /// The data set of a run, if it is kept.
    pub(crate) fn open(&self, data_set: &DataSet) -> anyhow::Result<Option<Prepared>> {
        let folder = self.folder.of(data_set.id);
        if read_data_set(&folder).is_err() {
            return Ok(None);
        }
        self.folder.touch(data_set.id);
        Ok(Some(Prepared::open(&folder, data_set.clone())?))
    }

    /// The one that would be prepared now, if it is kept; under the specification's name.
    pub(crate) fn find(
        &self,
        spec: &DataSpec,
        versions: &Versions,
    ) -> anyhow::Result<Option<(Prepared, About)>> {
        let Some(key) = &versions.key else { return Ok(None) };
        let found = self.list()?.into_iter().find(|kept| kept.about.key.as_ref() == Some(key));
        let Some(KeptSet { entry, about, data_set }) = found else { return Ok(None) };
        let data_set = DataSet { name: spec.name.clone(), ..data_set };
        self.folder.touch(data_set.id);
        let mut prepared = Prepared::open(&entry.folder, data_set)?;
        prepared.sources = about.sources.iter().cloned().map(Into::into).collect();
        Ok(Some((prepared, about)))
    }

    /// Keeps a data set, and reads it from there.
    pub(crate) fn keep(&self, prepared: Prepared, versions: Versions) -> anyhow::Result<Prepared> {
        let data_set = &prepared.data_set;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let key = versions.key;
        let sources = prepared.sources.iter().cloned().map(Into::into).collect();
        let about = About { format: FORMAT, key, sources, prepared_at: now.as_secs() };
        let folder = self.folder.of(data_set.id);
        if read_data_set(&folder).is_ok() {
            // The same rows by another specification, or from sources that look new.
            let text = serde_json::to_vec_pretty(&about)?;
            write(&folder.join(ABOUT), &text)?;
            return Ok(prepared.keep(self.folder.root(), &[])?);
        }
        if folder.is_dir() {
            // A segment's, which was sent it.
            self.folder.remove(data_set.id)?;
        }
        let bytes = bytes_of(&prepared);
        match self.folder.make_room(bytes, &[data_set.id]) {
            Err(full @ FlightError::Full { .. }) => {
                say(&format!("the data set is not kept in {}: {full}", folder.display()));
                return Ok(prepared);
            }
            made => made?,
        }
        let beside = [
            (ABOUT, serde_json::to_vec_pretty(&about)?),
            (DATA_SET, encode_data_set(data_set.clone())),
            (NAME, data_set.name.clone().into_bytes()),
        ];
        Ok(prepared.keep(self.folder.root(), &beside)?)
    }

    /// The one of this id, of the beginning of its id, or of this name.
    pub(crate) fn named(&self, name: &str) -> anyhow::Result<KeptSet> {
        let is_named = |kept: &KeptSet| {
            kept.data_set.name == name || kept.data_set.id.to_string().starts_with(name)
        };
        let mut found: Vec<_> = self.list()?.into_iter().filter(is_named).collect();
        let wrong = |text: String| Problems::one(format!("data set {name}"), text);
        match found.len() {
            0 => Err(wrong("is not kept here; `arrowhop data list` says what is".into()).into()),
            1 => Ok(found.remove(0)),
            count => Err(wrong(format!("is the name of {count}; give an id instead")).into()),
        }
    }

    /// Removes a data set.
    pub(crate) fn remove(&self, data_set: DataSetId) -> anyhow::Result<()> {
        self.folder.remove(data_set)?;
        Ok(())
    }
}

/// Bytes that a data set's files will take, about.
fn bytes_of(prepared: &Prepared) -> u64 {
    let data = &prepared.data_set;
    let row: usize = data.inputs.iter().map(arrowhop_types::InputSpec::bytes).sum();
    let targets: usize = data
        .targets
        .iter()
        .map(|target| match &target.target {
            arrowhop_types::Target::Classes(_) => 4,
            arrowhop_types::Target::Values(width) => 4 * width,
        })
        .sum();
    let rows: u64 = data.shards.iter().map(|shard| shard.train_rows + shard.validation_rows).sum();
    rows * (8 + row + targets) as u64
}

fn read_data_set(folder: &Path) -> anyhow::Result<DataSet> {
    let bytes = fs::read(folder.join(DATA_SET))?;
    Ok(decode_data_set(&bytes)?)
}

/// Writes a file whole, or leaves the old one.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new: PathBuf = path.with_extension("new");
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("write {}", path.display()))
}
