//! Whether a folder on this machine holds the files of the server that a session is connected to:
//! another machine may have a folder of the same name, and copies of a cluster share its identifier.
//! Where its last checkpoint is, which has just been written, tells them apart.

use std::path::Path;

use super::server::Session;
use crate::error::SourceError;

/// Below the data folder.
pub(super) const PATH: &str = "global/pg_control";
/// Another checkpoint may come in between so often.
const ATTEMPTS: usize = 3;

/// The identifier of the cluster and the position of its last checkpoint, the first and fifth field
/// of `ControlFileData` (`src/include/catalog/pg_control.h`).
fn identity(folder: &Path) -> std::io::Result<Option<(u64, u64)>> {
    let bytes = std::fs::read(folder.join(PATH))?;
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    };
    Ok(word(0).zip(word(32)))
}

/// What the server says is in its own: identifier and position.
pub(super) const QUERY: &str = "SELECT system_identifier, checkpoint_lsn - '0/0' \
                                FROM pg_control_system(), pg_control_checkpoint()";

/// Whether the folder is that of the server that gave this answer, or why it is not.
pub(super) fn is_of(
    session: &Session,
    folder: &Path,
    answer: &[String],
) -> Result<Result<(), String>, SourceError> {
    let mut of_server = answer.to_vec();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            of_server = session.wait(session.texts("read pg_control", QUERY))?;
        }
        let of_folder = match identity(folder) {
            Ok(identity) => {
                identity.map(|(id, lsn)| [id.cast_signed().to_string(), lsn.to_string()])
            }
            Err(error) => return Ok(Err(format!("{}: {error}", folder.display()))),
        };
        if of_folder.is_some_and(|of_folder| of_folder.as_slice() == of_server) {
            return Ok(Ok(()));
        }
    }
    Ok(Err(format!("{} on this machine holds the files of another server", folder.display())))
}
