//! Files as memory: what is larger than memory lies in a file, and the machine keeps of it what it has
//! room for. The one place where files are mapped. It knows nothing of what is in them.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::{Deref, DerefMut};
use std::path::Path;

use bytes::Bytes;
use memmap2::{Mmap, MmapMut};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// A file's bytes, read when they are looked at.
///
/// Map only files that nobody changes: those of this program, which appear under their names when
/// they are complete and are never written again. A file that is cut while it is mapped ends the process
/// (`SIGBUS`); one that is removed stays readable.
///
/// # Errors
/// When the file cannot be mapped.
pub fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the file's bytes do not change, as the function's contract says.
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// Bytes to work on, in a file without a name: it is gone when they are.
#[derive(Debug)]
pub struct Scratch {
    map: MmapMut,
}

impl Scratch {
    /// Zeros. Their room on the disk is taken at once: a disk that is full refuses here, and not when
    /// they are written.
    ///
    /// # Errors
    /// When `folder` cannot be written to, or lacks the room.
    pub fn new(folder: &Path, bytes: usize) -> io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        take_room(&file, bytes.max(1))?;
        // SAFETY: nobody else has the file, which has no name.
        let map = unsafe { MmapMut::map_mut(&file)? };
        Ok(Self { map })
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl AsRef<[u8]> for Scratch {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

/// Makes a file so long, with blocks of the disk behind all of it.
fn take_room(mut file: &File, bytes: usize) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
        Ok(()) => Ok(()),
        // A file system without the call.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let mut left = bytes;
            while left > 0 {
                match file.write(&ZEROS[..left.min(ZEROS.len())]) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(written) => left -= written,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_mapped_file_stays_readable_after_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"as it was").unwrap();
        let bytes = map(&File::open(&path).unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(&bytes[..], b"as it was");
        fs::write(&path, b"").unwrap();
        assert!(map(&File::open(&path).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn scratch_begins_as_zeros_leaves_no_file_and_keeps_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::new(folder.path(), 100_000).unwrap();
        assert!(scratch.iter().all(|byte| *byte == 0) && scratch.len() == 100_000);
        scratch[99_999] = 7;
        assert_eq!(scratch[99_999], 7);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_without_room_refuses_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Scratch::new(folder.path(), 1 << 60).is_err());
        assert!(Scratch::new(&folder.path().join("none"), 1).is_err());
    }
}
