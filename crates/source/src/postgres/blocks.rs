//! Where a relation's pages are read from: its files of 1 GiB each, or the server's own buffers
//! (`get_raw_page` of the extension `pageinspect`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::page::{Fallback, PAGE_BYTES, lsn_of};
use super::server::{Server, Session, literal};
use crate::error::SourceError;

/// Pages of one file: 1 GiB.
const FILE_PAGES: u32 = 131_072;

/// A relation's pages, by number.
pub(super) trait Blocks {
    /// Fills `out`, which is a number of pages long, with those from `first` on.
    fn read(&mut self, first: u32, out: &mut [u8]) -> Result<(), Fallback>;

    /// The positions in the log of `count` pages from `first` on, as they are now; nothing where
    /// they cannot be read.
    fn lsns(&mut self, first: u32, count: usize) -> Option<Vec<u64>>;
}

/// A relation's files.
pub(super) struct Files(Vec<File>);

impl Files {
    /// Opens the files of a relation of so many pages. They may have fewer by now: a table of long
    /// values can be vacuumed, and cut, although the table they belong to is locked.
    pub(super) fn open(first: &Path, pages: u32) -> io::Result<Self> {
        let mut files = Vec::new();
        let mut left = pages;
        for number in 0.. {
            let path = match number {
                0 => first.to_owned(),
                _ => PathBuf::from(format!("{}.{number}", first.display())),
            };
            match File::open(&path) {
                Ok(file) => files.push(file),
                Err(error) if number > 0 && error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(named(&path, &error)),
            }
            left = left.saturating_sub(FILE_PAGES);
            if left == 0 {
                break;
            }
        }
        Ok(Self(files))
    }

    fn read_at(&self, block: u32, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = self.0.get((block / FILE_PAGES) as usize);
        let file = file.ok_or(io::ErrorKind::UnexpectedEof)?;
        let at = u64::from(block % FILE_PAGES) * PAGE_BYTES as u64 + offset;
        file.read_exact_at(out, at)
    }
}

impl Blocks for Files {
    fn read(&mut self, first: u32, out: &mut [u8]) -> Result<(), Fallback> {
        let pages = u32::try_from(out.len() / PAGE_BYTES).expect("a piece has fewer pages");
        let in_file = (FILE_PAGES - first % FILE_PAGES).min(pages);
        let (here, beyond) = out.split_at_mut(in_file as usize * PAGE_BYTES);
        self.read_at(first, 0, here).map_err(|error| {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                tracing::warn!(block = first, %error, "cannot read pages of a table");
            }
            Fallback::Unreadable
        })?;
        if beyond.is_empty() { Ok(()) } else { self.read(first + in_file, beyond) }
    }

    fn lsns(&mut self, first: u32, count: usize) -> Option<Vec<u64>> {
        let lsn = |block| {
            let mut bytes = [0; 8];
            self.read_at(block, 0, &mut bytes).ok()?;
            Some(lsn_of(&bytes))
        };
        (first..).take(count).map(lsn).collect()
    }
}

/// No pages: of tables without long values.
pub(super) struct NoBlocks;

impl Blocks for NoBlocks {
    fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), Fallback> {
        Err(Fallback::Toast)
    }

    fn lsns(&mut self, _: u32, _: usize) -> Option<Vec<u64>> {
        None
    }
}

/// The server's own buffers, page by page. Each is whole, and as it is now.
pub(super) struct RawPages {
    session: Session,
    function: String,
    relation: String,
}

impl RawPages {
    /// A connection of its own; the user must be a superuser.
    pub(super) fn open(
        server: &Server,
        function: &str,
        relation: &str,
    ) -> Result<Self, SourceError> {
        let session = Session::open(server)?;
        Ok(Self { session, function: function.to_owned(), relation: relation.to_owned() })
    }
}

impl Blocks for RawPages {
    fn read(&mut self, first: u32, out: &mut [u8]) -> Result<(), Fallback> {
        let count = out.len() / PAGE_BYTES;
        let last = u64::from(first) + count as u64 - 1;
        let query = format!(
            "SELECT {}({}, 'main', page) FROM generate_series({first}::bigint, {last}) page",
            self.function,
            literal(&self.relation)
        );
        let mut pages = out.as_chunks_mut::<PAGE_BYTES>().0.iter_mut();
        let mut filled = 0;
        let doing = format!("read pages of {}", self.relation);
        let read = self.session.copy(&doing, &query, |message| {
            // A tuple: its number of columns and the value's length, then the page.
            if let Some(page) = message.last_chunk::<PAGE_BYTES>()
                && let Some(room) = pages.next()
            {
                *room = *page;
                filled += 1;
            }
            Ok(())
        });
        read.map_err(|error| {
            tracing::warn!(block = first, %error, "cannot read pages of a table");
            Fallback::Unreadable
        })?;
        if filled == count { Ok(()) } else { Err(Fallback::Unreadable) }
    }

    fn lsns(&mut self, first: u32, count: usize) -> Option<Vec<u64>> {
        let mut pages = vec![0; count * PAGE_BYTES];
        self.read(first, &mut pages).ok()?;
        Some(pages.chunks(PAGE_BYTES).map(lsn_of).collect())
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
