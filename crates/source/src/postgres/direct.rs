//! Reading a table's pages directly, while a lock keeps writers out.
//!
//! ```text
//! session:  BEGIN ─▶ LOCK … IN SHARE MODE ─▶ snapshot, log position L ─▶ CHECKPOINT ─▶ position M
//! threads:            pages ─▶ every tuple decided, page at most L? ─yes─▶ columns           │
//!                                               └─no─▶ hole ─▶ SQL by ctid, on the snapshot  │
//! session:            position still M? ─no─▶ every page still at its position? ◀────────────┘
//! ```
//!
//! Under the lock only hint bits change, and readers may prune: pruning moves the page's position in
//! the log. So a page that was torn by a write is beyond L already, or has moved when it is looked at
//! again.

use std::ops::Range;
use std::path::PathBuf;

use arrow::array::RecordBatch;

use super::batches::{Batches, Form};
use super::blocks::{Blocks, Files, NoBlocks, RawPages};
use super::page::{Fallback, PAGE_BYTES, Page, PageRules, Place};
use super::report::PageCounts;
use super::server::{Server, Session};
use super::toast::Toast;
use super::tuple::TupleLayout;
use super::{copy, relation::Relation};
use crate::error::SourceError;
use crate::parallel::{self, Stretches};

/// Pages of one read: 1 MiB.
const PIECE_PAGES: u32 = 128;
/// Pages, with their long values, that one thread takes at a time, in bytes.
const UNIT_BYTES: u64 = 8 << 20;
/// A batch has at most this many rows.
const BATCH_ROWS_MAX: usize = 1 << 18;
/// A page has at most this many line pointers (`MaxHeapTuplesPerPage`).
const ITEMS_MAX: u16 = 291;

/// Where pages come from.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    pub(super) means: Means,
    /// What the table is called there: its first file, or its name.
    pub(super) table: String,
    /// The same of its long values.
    pub(super) toast: Option<String>,
}

/// How pages are read.
#[derive(Debug, Clone)]
pub(super) enum Means {
    /// From files in this folder.
    Files(PathBuf),
    /// By this function on the server, each thread over a connection of its own.
    RawPages(Box<Server>, String),
}

impl Transport {
    /// Whether pages come from files.
    pub(super) fn is_files(&self) -> bool {
        matches!(self.means, Means::Files(_))
    }

    fn open(&self, name: &str, pages: u32) -> Result<Box<dyn Blocks>, SourceError> {
        Ok(match &self.means {
            Means::Files(folder) => {
                let path = folder.join(name);
                let files = Files::open(&path, pages);
                Box::new(files.map_err(|source| SourceError::Read { path, source })?)
            }
            Means::RawPages(server, function) => Box::new(RawPages::open(server, function, name)?),
        })
    }
}

/// What to read.
pub(super) struct Scan<'a> {
    pub(super) relation: &'a Relation,
    pub(super) form: &'a Form,
    pub(super) layout: &'a TupleLayout,
    pub(super) transport: &'a Transport,
    pub(super) rules: PageRules,
    pub(super) threads: usize,
}

/// Some pages, or some of the line pointers of one page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    pages: Range<u32>,
    items: Range<u16>,
}

/// What was read of a unit, in its order.
enum Piece {
    Rows(Vec<RecordBatch>),
    /// To be read by SQL: from this place on, up to that.
    Hole((u32, u16), (u32, u16)),
}

/// A unit that was read.
struct Done {
    pieces: Vec<Piece>,
    /// The positions in the log of its pages.
    lsns: Vec<Option<u64>>,
    counts: PageCounts,
}

/// What was read, before holes are filled.
pub(super) struct Scanned {
    units: Vec<Done>,
    /// Whether pages of long values moved while they were read.
    toast_moved: bool,
}

impl Scan<'_> {
    /// Reads all pages, on all threads.
    pub(super) fn read(
        &self,
        has_moved: impl Fn() -> Result<bool, SourceError>,
    ) -> Result<Scanned, SourceError> {
        let units = self.units();
        let threads = self.threads.min(units.len()).max(1);
        // Long values lie in the order of their rows, too.
        let stretches = Stretches::new(units.len(), threads);
        let results = parallel::spawn(threads, || {
            let mut done = Vec::new();
            let work = self.work(&units, &stretches, &mut done);
            (done, work)
        });
        let mut read = Vec::new();
        let mut workers = Vec::new();
        for (done, worker) in results {
            read.push(done);
            workers.push(worker?);
        }
        let mut done = parallel::in_order(read);
        let mut toast_moved = false;
        if has_moved()? {
            let mut blocks = self.blocks()?;
            for (unit, done) in units.iter().zip(&mut done) {
                recheck(&mut *blocks, unit, done);
            }
            for worker in workers {
                toast_moved |= worker.have_moved(self)?;
            }
        }
        Ok(Scanned { units: done, toast_moved })
    }

    /// The table's pages.
    fn blocks(&self) -> Result<Box<dyn Blocks>, SourceError> {
        self.transport.open(&self.transport.table, self.relation.pages)
    }

    /// Those of its long values.
    fn toast_blocks(&self) -> Result<Box<dyn Blocks>, SourceError> {
        match &self.transport.toast {
            Some(toast) if self.relation.toast_pages > 0 => {
                self.transport.open(toast, self.relation.toast_pages)
            }
            _ => Ok(Box::new(NoBlocks)),
        }
    }

    /// Cuts the table into units of about equal bytes, long values counted.
    fn units(&self) -> Vec<Unit> {
        let Relation { pages, toast_pages, .. } = *self.relation;
        let bytes = (u64::from(pages) + u64::from(toast_pages)) * PAGE_BYTES as u64;
        let page_bytes = bytes / u64::from(pages.max(1));
        let all = 0..u16::MAX;
        if page_bytes > 2 * UNIT_BYTES {
            // A page of a quarter of its possible tuples, as pointers to long values take.
            let items = u64::from(ITEMS_MAX) / 4 * UNIT_BYTES / page_bytes;
            let step = u16::try_from(items.max(1)).unwrap_or(ITEMS_MAX);
            let of_page = |page: u32| {
                (0..ITEMS_MAX).step_by(usize::from(step)).map(move |start| Unit {
                    pages: page..page + 1,
                    items: start..(if start + step >= ITEMS_MAX { u16::MAX } else { start + step }),
                })
            };
            return (0..pages).flat_map(of_page).collect();
        }
        let step = u32::try_from(UNIT_BYTES / page_bytes.max(1)).unwrap_or(u32::MAX).max(1);
        (0..pages)
            .step_by(step as usize)
            .map(|start| Unit {
                pages: start..start.saturating_add(step).min(pages),
                items: all.clone(),
            })
            .collect()
    }

    /// Rows of the largest batch: the largest unit full of the shortest tuples, within bounds. Room for
    /// more would be fresh memory, which costs as much as reading.
    fn batch_rows(&self, units: &[Unit]) -> usize {
        let page_rows = self.layout.page_rows_max().min(usize::from(ITEMS_MAX));
        let rows = units.iter().map(|unit| unit.pages.len() * page_rows.min(unit.items.len()));
        (rows.max().unwrap_or(0) + usize::from(ITEMS_MAX)).min(BATCH_ROWS_MAX)
    }

    /// One thread's share of the units.
    fn work(
        &self,
        units: &[Unit],
        stretches: &Stretches,
        done: &mut Vec<(usize, Done)>,
    ) -> Result<LongPages, SourceError> {
        let mut blocks = self.blocks()?;
        let mut toast_blocks = self.toast_blocks()?;
        let (id, pages) = (self.relation.toast, self.relation.toast_pages);
        let mut toast = Toast::new(id, pages, &mut *toast_blocks, self.rules);
        let mut reader = UnitReader {
            scan: self,
            blocks: &mut *blocks,
            batches: Batches::new(self.form, self.batch_rows(units)),
            buffer: Vec::new(),
            places: Vec::new(),
        };
        let mut on = stretches.begin();
        while let Some(i) = stretches.next(&mut on) {
            done.push((i, reader.read(&units[i], &mut toast)?));
        }
        Ok(LongPages(toast.lsns()))
    }
}

/// The positions in the log of the long values' pages that a thread read.
struct LongPages(Vec<(u32, Vec<Option<u64>>)>);

impl LongPages {
    fn have_moved(&self, scan: &Scan<'_>) -> Result<bool, SourceError> {
        let mut blocks = scan.toast_blocks()?;
        Ok(self.0.iter().any(|(first, then)| have_moved(&mut *blocks, *first, then)))
    }
}

/// Whether any of these pages has another position now.
fn have_moved(blocks: &mut dyn Blocks, first: u32, then: &[Option<u64>]) -> bool {
    let now = blocks.lsns(first, then.len());
    let is_same = |(then, now): (&Option<u64>, &u64)| then.is_none_or(|then| then == *now);
    now.is_none_or(|now| !then.iter().zip(&now).all(is_same))
}

/// A unit whose pages moved is read by SQL as a whole.
fn recheck(blocks: &mut dyn Blocks, unit: &Unit, done: &mut Done) {
    if have_moved(blocks, unit.pages.start, &done.lsns) {
        done.pieces = vec![Piece::Hole(unit.start(), unit.end())];
        done.counts.all_fell_back(Fallback::Changed);
    }
}

impl Unit {
    /// The first place of it; line pointers are counted from 1.
    fn start(&self) -> (u32, u16) {
        self.place(self.pages.start)
    }

    /// The first place behind it.
    fn end(&self) -> (u32, u16) {
        self.behind(self.pages.end - 1)
    }

    fn place(&self, page: u32) -> (u32, u16) {
        (page, if self.items.start == 0 { 0 } else { self.items.start + 1 })
    }

    fn behind(&self, page: u32) -> (u32, u16) {
        if self.items.end == u16::MAX { (page + 1, 0) } else { (page, self.items.end + 1) }
    }
}

/// Reads units, one after the other.
struct UnitReader<'a> {
    scan: &'a Scan<'a>,
    blocks: &'a mut dyn Blocks,
    batches: Batches,
    buffer: Vec<u8>,
    places: Vec<Place>,
}

impl UnitReader<'_> {
    fn read(&mut self, unit: &Unit, toast: &mut Toast<'_>) -> Result<Done, SourceError> {
        let mut done = Done { pieces: Vec::new(), lsns: Vec::new(), counts: PageCounts::default() };
        let mut buffer = std::mem::take(&mut self.buffer);
        for first in unit.pages.clone().step_by(PIECE_PAGES as usize) {
            let count = PIECE_PAGES.min(unit.pages.end - first);
            buffer.resize(count as usize * PAGE_BYTES, 0);
            let read = self.blocks.read(first, &mut buffer);
            let (pages, _) = buffer.as_chunks_mut::<PAGE_BYTES>();
            for (page, block) in pages.iter_mut().zip(first..) {
                self.batches.reserve(usize::from(ITEMS_MAX))?;
                let mut found = read.and_then(|()| self.page(page, block, unit, toast));
                if matches!(found, Err(Fallback::Checksum | Fallback::Damaged)) {
                    // It may have been torn by a write; then it is whole the next time.
                    let again = self.blocks.read(block, page);
                    found = again.and_then(|()| self.page(page, block, unit, toast));
                }
                self.finish_page(block, unit, found, &mut done)?;
            }
        }
        self.buffer = buffer;
        self.finish_rows(&mut done)?;
        Ok(done)
    }

    /// Adds the visible rows of a page, or none of them.
    fn page(
        &mut self,
        bytes: &[u8; PAGE_BYTES],
        block: u32,
        unit: &Unit,
        toast: &mut Toast<'_>,
    ) -> Result<u64, Fallback> {
        let page = Page::read(bytes, block, &self.scan.rules)?;
        self.places.clear();
        page.visible(unit.items.clone(), &mut self.places)?;
        let before = self.batches.rows();
        let pushed = self.scan.layout.push(bytes, &self.places, &mut self.batches, toast);
        if let Err(fault) = pushed {
            self.batches.truncate(before);
            return Err(fault);
        }
        Ok(page.lsn)
    }

    /// Rows between two holes, even if none of them passes: holes are joined where there are none.
    fn finish_rows(&mut self, done: &mut Done) -> Result<(), SourceError> {
        let rows = self.batches.take()?;
        if !rows.is_empty() {
            done.pieces.push(Piece::Rows(self.scan.form.passing(rows)?));
        }
        Ok(())
    }

    fn finish_page(
        &mut self,
        block: u32,
        unit: &Unit,
        found: Result<u64, Fallback>,
        done: &mut Done,
    ) -> Result<(), SourceError> {
        // A page that is cut into several units counts once where it is read.
        if unit.items.start == 0 || found.is_err() {
            done.counts.add(found.map(drop));
        }
        match found {
            Ok(lsn) => {
                done.lsns.push(Some(lsn));
                Ok(())
            }
            Err(_) => {
                done.lsns.push(None);
                self.finish_rows(done)?;
                done.pieces.push(Piece::Hole(unit.place(block), unit.behind(block)));
                Ok(())
            }
        }
    }
}

impl Scanned {
    /// All rows in the table's order, holes read by SQL; nothing where long values moved.
    pub(super) fn fill(
        self,
        reader: &Session,
        relation: &Relation,
        form: &Form,
        counts: &mut PageCounts,
    ) -> Result<Option<Vec<RecordBatch>>, SourceError> {
        if self.toast_moved {
            return Ok(None);
        }
        let mut batches = Vec::new();
        let mut hole: Option<((u32, u16), (u32, u16))> = None;
        for done in self.units {
            counts.merge(&done.counts);
            for piece in done.pieces {
                match piece {
                    Piece::Rows(rows) => {
                        if let Some((from, to)) = hole.take() {
                            let query = copy::between(form, relation, from, to);
                            batches.extend(copy::one(reader, form, &query)?);
                        }
                        batches.extend(rows);
                    }
                    Piece::Hole(from, to) => hole = Some((hole.map_or(from, |(from, _)| from), to)),
                }
            }
        }
        if let Some((from, to)) = hole {
            let query = copy::between(form, relation, from, to);
            batches.extend(copy::one(reader, form, &query)?);
        }
        Ok(Some(batches))
    }
}
