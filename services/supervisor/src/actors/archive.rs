//! The archive copies states into the model store, in the background, and serves them from there.
//! A state is a file `models/RUN/MODEL/VERSION.safetensors`: written beside its place, synced, then
//! renamed, so that it is there whole or not at all. States that clients put, to be version 0 of a
//! model that they are about to submit, wait as `models/offered/DIGEST.safetensors`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::{Actor, Context, Handler, Message, Recipient};
use arrowhop_catalog::Checkpoint;
use arrowhop_flight::{
    FlightError, FlightPeer, ModelStore, ModelTicket, StateBytes, StoredModel, connect,
};
use arrowhop_runtime::ask;
use arrowhop_types::{Digest, ErrorClass, ModelId, RunId, Timestamp, Version};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::actors::hopper::Kept;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(180);
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// Where states wait, below the state directory.
const OFFERED: &str = "models/offered";
/// States on their way to the disk at a time: each is in memory meanwhile.
const COPIES_MAX: usize = 2;
/// A state in the store is at most this large.
const STATE_BYTES_MAX: u64 = 16 << 30;

/// Copies states into the model store.
pub(crate) struct Archive {
    store: Store,
    runtime: tokio::runtime::Handle,
    copies: Arc<Semaphore>,
    kept: Recipient<Kept>,
}

/// Copy this state.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub(crate) struct Keep {
    pub(crate) ticket: ModelTicket,
    pub(crate) digest: Digest,
    pub(crate) from_uri: String,
}

/// Remove states that the catalog no longer lists.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Discard(pub(crate) Vec<PathBuf>);

impl Archive {
    pub(crate) fn new(
        store: Store,
        runtime: tokio::runtime::Handle,
        kept: Recipient<Kept>,
    ) -> Self {
        Self { store, runtime, copies: Arc::new(Semaphore::new(COPIES_MAX)), kept }
    }
}

impl Actor for Archive {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // One state per model may be on its way, and a run has at most 10,000 models.
        ctx.set_mailbox_capacity(20_000);
    }
}

impl Handler<Keep> for Archive {
    type Result = ();

    fn handle(&mut self, keep: Keep, _: &mut Context<Self>) {
        let (store, kept, copies) =
            (self.store.clone(), self.kept.clone(), Arc::clone(&self.copies));
        self.runtime.spawn(async move {
            let _copy = copies.acquire_owned().await.expect("copies are never closed");
            let ticket = keep.ticket;
            let result = copy(&store, keep).await;
            if let Err(error) = ask(&kept, Kept { ticket, result }, REPORT_TIMEOUT).await {
                warn!(%error, "the hopper does not hear of a checkpoint");
            }
        });
    }
}

impl Handler<Discard> for Archive {
    type Result = ();

    fn handle(&mut self, discard: Discard, _: &mut Context<Self>) {
        let store = self.store.clone();
        self.runtime.spawn_blocking(move || {
            for path in discard.0 {
                let path = store.directory.join(path);
                if let Err(error) = fs::remove_file(&path) {
                    warn!(path = %path.display(), %error, "an old checkpoint was not removed");
                }
            }
        });
    }
}

/// What was not there need not be removed.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    removed.or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

async fn copy(store: &Store, keep: Keep) -> Result<Checkpoint, String> {
    let text = |error: FlightError| arrowhop_wire::status::status_of(&error).message().to_owned();
    let peer = FlightPeer::new(connect(&keep.from_uri, CONNECT_TIMEOUT).await.map_err(text)?);
    let state = peer.state(keep.ticket, STATE_BYTES_MAX, FETCH_TIMEOUT).await.map_err(text)?;
    if state.digest != keep.digest {
        return Err(text(FlightError::WrongDigest { expected: keep.digest, found: state.digest }));
    }
    let store = store.clone();
    let written = tokio::task::spawn_blocking(move || {
        store.write(keep.ticket, &state).map(|path| (path, state.bytes.len() as u64))
    });
    let (path, bytes) = written
        .await
        .expect("writing a file does not panic")
        .map_err(|error| format!("write the state: {error}"))?;
    Ok(checkpoint(keep.ticket.version, keep.digest, bytes, &path))
}

/// The record of a state that is in the store now.
fn checkpoint(version: Version, digest: Digest, bytes: u64, path: &Path) -> Checkpoint {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (path, kept_at) = (path.to_string_lossy().into_owned(), Timestamp::default() + now);
    Checkpoint { version, digest, bytes, path, kept_at }
}

/// The model store: files below the state directory.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The store of a state directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The state directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A state's file, below the state directory.
    #[must_use]
    pub fn path(ticket: ModelTicket) -> PathBuf {
        let folder = Path::new("models").join(ticket.run.to_string());
        folder.join(ticket.model.to_string()).join(format!("{}.safetensors", ticket.version))
    }

    /// Writes a state; returns its path below the state directory.
    fn write(&self, ticket: ModelTicket, state: &StateBytes) -> std::io::Result<PathBuf> {
        let path = Self::path(ticket);
        self.write_to(&path, state)?;
        Ok(path)
    }

    fn write_to(&self, path: &Path, state: &StateBytes) -> std::io::Result<()> {
        let place = self.directory.join(path);
        let folder = place.parent().expect("a state's file lies in a folder");
        fs::create_dir_all(folder)?;
        let beside = place.with_extension("part");
        let mut file = File::create(&beside)?;
        file.write_all(&state.bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &place)?;
        File::open(folder)?.sync_all()
    }

    /// Where a state waits that was put and is no model's yet.
    fn offered(digest: Digest) -> PathBuf {
        Path::new(OFFERED).join(format!("{digest}.safetensors"))
    }

    /// Whether a state waits.
    pub(crate) fn is_offered(&self, digest: Digest) -> bool {
        self.directory.join(Self::offered(digest)).is_file()
    }

    /// Makes a state that waits version 0 of a model; other models may start from it, too.
    pub(crate) fn adopt(
        &self,
        run: RunId,
        model: ModelId,
        digest: Digest,
    ) -> std::io::Result<Checkpoint> {
        let version = Version(0);
        let path = Self::path(ModelTicket { run, model, version });
        let (from, to) = (self.directory.join(Self::offered(digest)), self.directory.join(&path));
        fs::create_dir_all(to.parent().expect("a state's file lies in a folder"))?;
        // Not every file system has links.
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)?;
        }
        Ok(checkpoint(version, digest, to.metadata()?.len(), &path))
    }

    /// Removes a state that waits.
    pub(crate) fn withdraw(&self, digest: Digest) -> std::io::Result<()> {
        gone(fs::remove_file(self.directory.join(Self::offered(digest))))
    }

    /// Removes the states that nobody has come back for within `age`: another process may be about
    /// to submit a run with the others.
    pub(crate) fn withdraw_older(&self, age: Duration) -> std::io::Result<()> {
        let waiting = match fs::read_dir(self.directory.join(OFFERED)) {
            Ok(waiting) => waiting,
            Err(error) => return gone(Err(error)),
        };
        for entry in waiting {
            let entry = entry?;
            let waited = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if waited >= age {
                gone(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    fn read(&self, ticket: ModelTicket) -> Result<StateBytes, FlightError> {
        match fs::read(self.directory.join(Self::path(ticket))) {
            Ok(bytes) => Ok(StateBytes::new(bytes.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(FlightError::MissingModel(ticket))
            }
            Err(error) => Err(FlightError::Store {
                action: "read the model store",
                class: ErrorClass::Unavailable,
                source: error.into(),
            }),
        }
    }
}

#[tonic::async_trait]
impl ModelStore for Store {
    /// Nothing: the catalog lists checkpoints.
    async fn list(&self) -> Result<Vec<StoredModel>, FlightError> {
        Ok(Vec::new())
    }

    async fn state(&self, ticket: ModelTicket) -> Result<StateBytes, FlightError> {
        let store = self.clone();
        let read = tokio::task::spawn_blocking(move || store.read(ticket));
        read.await.expect("reading a file does not panic")
    }

    fn put_bytes_max(&self) -> u64 {
        STATE_BYTES_MAX
    }

    async fn put(&self, state: StateBytes) -> Result<(), FlightError> {
        let store = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            store.write_to(&Self::offered(state.digest), &state)
        });
        written.await.expect("writing a file does not panic").map_err(|error| FlightError::Store {
            action: "write the model store",
            class: ErrorClass::Unavailable,
            source: error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let ticket = ModelTicket { run: RunId(3), model: ModelId(1), version: Version(2) };
        assert!(
            matches!(store.read(ticket), Err(FlightError::MissingModel(missing)) if missing == ticket)
        );
        let state = StateBytes::new(vec![7; 1_000].into());
        let path = store.write(ticket, &state).unwrap();
        assert_eq!(path, Path::new("models/3/1/2.safetensors"));
        assert_eq!(store.read(ticket).unwrap(), state);
        let left = fs::read_dir(folder.path().join("models/3/1")).unwrap().count();
        assert_eq!(left, 1);
    }

    #[tokio::test]
    async fn a_state_that_was_put_becomes_version_0_of_several_models() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let state = StateBytes::new(vec![9; 100].into());
        assert!(!store.is_offered(state.digest));
        store.put(state.clone()).await.unwrap();
        assert!(store.is_offered(state.digest));
        let models = [ModelId(1), ModelId(2)];
        for model in models {
            let kept = store.adopt(RunId(4), model, state.digest).unwrap();
            assert_eq!((kept.version, kept.digest, kept.bytes), (Version(0), state.digest, 100));
            assert_eq!(kept.path, format!("models/4/{model}/0.safetensors"));
        }
        store.withdraw(state.digest).unwrap();
        store.withdraw(state.digest).unwrap();
        assert!(!store.is_offered(state.digest));
        for model in models {
            let ticket = ModelTicket { run: RunId(4), model, version: Version(0) };
            assert_eq!(store.read(ticket).unwrap(), state);
        }
        store.put(state.clone()).await.unwrap();
        store.withdraw_older(Duration::from_secs(3_600)).unwrap();
        assert!(store.is_offered(state.digest));
        store.withdraw_older(Duration::ZERO).unwrap();
        assert!(!store.is_offered(state.digest));
    }
}
