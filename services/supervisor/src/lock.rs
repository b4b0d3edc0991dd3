//! A run is driven by one process at a time: whoever holds the lock on its file. A process that
//! dies lets go of it.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use arrowhop_types::RunId;

use crate::SupervisorError;

/// The right to drive a run, until it is dropped.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of a run whose catalog is the file `catalog`.
    pub(crate) fn take(catalog: &Path, run: RunId) -> Result<Self, SupervisorError> {
        let folder = catalog.with_file_name("locks");
        let path = folder.join(format!("run-{run}.lock"));
        let failed = |source| SupervisorError::File { path: path.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        let file = File::create(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(SupervisorError::Busy { run }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_one_driver() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = folder.path().join("catalog.sqlite");
        let lock = RunLock::take(&catalog, RunId(1)).unwrap();
        assert!(matches!(
            RunLock::take(&catalog, RunId(1)),
            Err(SupervisorError::Busy { run: RunId(1) })
        ));
        RunLock::take(&catalog, RunId(2)).unwrap();
        drop(lock);
        RunLock::take(&catalog, RunId(1)).unwrap();
    }
}
