//! Long values, which PostgreSQL cuts into chunks and keeps in a table of their own, in the order in
//! which they were written. So one reading after the other finds most of them right behind the last;
//! others are found by a lazy index over the windows that were read.
//!
//! ```text
//! heap page:   … │ pointer to value 7 │ …                 runs: (7, 0) ─▶ window 0, chunk 2
//!                                                               (7, 3) ─▶ window 1, chunk 0
//! TOAST pages: │ 5:0 5:1 │ 7:0 7:1 7:2 ║ 7:3 │ 8:0 8:1 │ …
//!              └────── window 0 ───────╨───── window 1 ─────
//! ```

use std::collections::{BTreeMap, HashMap};

use super::blocks::Blocks;
use super::page::{Fallback, PAGE_BYTES, Page, PageRules, Place, TupleHeader, u32_at};
use super::room::Room;

/// Pages read at a time.
const WINDOW_PAGES: u32 = 64;
/// The index has at most this many entries, of some 32 bytes.
const RUNS_MAX: usize = 1 << 25;

/// A pointer to a long value (`varatt_external`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Long {
    /// Bytes when unpacked.
    raw: usize,
    /// Bytes of its chunks together.
    stored: usize,
    id: u32,
    relation: u32,
}

impl Long {
    /// Bytes of a pointer in a tuple, with its own header of two.
    pub(super) const POINTER_BYTES: usize = 18;

    /// Reads a pointer behind its first byte.
    pub(super) fn read(pointer: &[u8]) -> Result<Self, Fallback> {
        const ON_DISK: u8 = 18;
        if pointer.len() != Self::POINTER_BYTES - 1 || pointer[0] != ON_DISK {
            return Err(Fallback::Damaged);
        }
        let raw = u32_at(pointer, 1).checked_sub(4).ok_or(Fallback::Damaged)? as usize;
        // The two highest bits say how it is compressed; its chunks say it again.
        let stored = (u32_at(pointer, 5) & 0x3fff_ffff) as usize;
        if stored > raw || raw > 1 << 30 {
            return Err(Fallback::Damaged);
        }
        Ok(Self { raw, stored, id: u32_at(pointer, 9), relation: u32_at(pointer, 13) })
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.stored < self.raw
    }
}

/// A chunk in the window.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    id: u32,
    number: u32,
    start: u32,
    length: u32,
}

/// The long values of one table, for one reader.
pub(super) struct Toast<'a> {
    /// Room for values that are unpacked or converted.
    pub(super) scratch: Room,
    packed: Room,
    relation: u32,
    /// Pages of it; none where the table has no long values.
    pages: u32,
    blocks: &'a mut dyn Blocks,
    rules: PageRules,
    /// The pages of the window, and the chunks in them.
    window: Vec<u8>,
    at: Option<u32>,
    chunks: Vec<Chunk>,
    /// The chunk that is probably asked for next.
    next: usize,
    /// Where chunks are that do not follow their predecessor in the same window.
    runs: HashMap<(u32, u32), (u32, u32)>,
    is_indexed: Vec<bool>,
    /// The log's positions of all pages read, by window.
    lsns: BTreeMap<u32, Vec<Option<u64>>>,
}

impl<'a> Toast<'a> {
    /// The long values in table `relation`, which has so many pages.
    pub(super) fn new(
        relation: u32,
        pages: u32,
        blocks: &'a mut dyn Blocks,
        rules: PageRules,
    ) -> Self {
        Self {
            scratch: Room::default(),
            packed: Room::default(),
            relation,
            pages,
            blocks,
            rules,
            window: Vec::new(),
            at: None,
            chunks: Vec::new(),
            next: 0,
            runs: HashMap::new(),
            is_indexed: vec![false; pages.div_ceil(WINDOW_PAGES) as usize],
            lsns: BTreeMap::new(),
        }
    }

    /// Appends a value as it is stored.
    pub(super) fn append(&mut self, long: &Long, out: &mut Room) -> Result<(), Fallback> {
        if long.relation != self.relation {
            return Err(Fallback::Toast);
        }
        let end = out.len() + long.stored;
        out.reserve(long.stored);
        let mut number = 0;
        while out.len() < end {
            let chunk = self.chunk(long.id, number)?;
            let (start, length) = (chunk.start as usize, chunk.length as usize);
            if length == 0 || length > end - out.len() {
                return Err(Fallback::Toast);
            }
            out.extend(&self.window[start..start + length]);
            number += 1;
        }
        Ok(())
    }

    /// A compressed value, in a buffer to be given back.
    pub(super) fn packed(&mut self, long: &Long) -> Result<Room, Fallback> {
        let mut packed = std::mem::take(&mut self.packed);
        packed.truncate(0);
        self.append(long, &mut packed).map(|()| packed)
    }

    pub(super) fn give_back(&mut self, packed: Room) {
        self.packed = packed;
    }

    /// The positions in the log of all pages that were read, by the first of each window.
    pub(super) fn lsns(self) -> Vec<(u32, Vec<Option<u64>>)> {
        let windows = self.lsns.into_iter();
        windows.map(|(window, lsns)| (window * WINDOW_PAGES, lsns)).collect()
    }

    fn chunk(&mut self, id: u32, number: u32) -> Result<Chunk, Fallback> {
        let is_it = |chunk: &&Chunk| chunk.id == id && chunk.number == number;
        if self.chunks.get(self.next).filter(is_it).is_none() {
            let (window, index) = self.find(id, number)?;
            self.load(window)?;
            self.next = index as usize;
        }
        let chunk = *self.chunks.get(self.next).filter(is_it).ok_or(Fallback::Toast)?;
        self.next += 1;
        Ok(chunk)
    }

    /// Where a chunk is: by the index, in the next window, where the order of ids suggests, or
    /// anywhere.
    fn find(&mut self, id: u32, number: u32) -> Result<(u32, u32), Fallback> {
        let windows = u32::try_from(self.is_indexed.len()).expect("made of a u32");
        let following = match self.at {
            Some(at) => at + 1,
            None => self.suggest(id, windows),
        };
        let mut suggested = None;
        for attempt in 0..windows.saturating_add(3) {
            if let Some(&found) = self.runs.get(&(id, number)) {
                return Ok(found);
            }
            let window = match attempt {
                0 => following,
                1 => *suggested.insert(self.suggest(id, windows)),
                2 => suggested.expect("it was suggested before") + 1,
                _ => attempt - 3,
            };
            if window < windows && !self.is_indexed[window as usize] {
                self.load(window)?;
            }
        }
        self.runs.get(&(id, number)).copied().ok_or(Fallback::Toast)
    }

    /// The last window that begins with an id that is not greater: ids mostly ascend.
    fn suggest(&mut self, id: u32, windows: u32) -> u32 {
        let (mut low, mut high) = (0, windows.saturating_sub(1));
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.first_id(middle).is_some_and(|first| first <= id) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    /// The id of the first chunk of a window's first page.
    fn first_id(&mut self, window: u32) -> Option<u32> {
        let mut bytes = [0; PAGE_BYTES];
        let block = window * WINDOW_PAGES;
        self.blocks.read(block, &mut bytes).ok()?;
        let page = Page::read(&bytes, block, &self.rules).ok()?;
        let place = page.tuples(0..u16::MAX).next()?.ok()?;
        Some(chunk_at(&bytes, 0, place).ok()?.id)
    }

    /// Makes a window the current one.
    fn load(&mut self, window: u32) -> Result<(), Fallback> {
        if self.at == Some(window) {
            return Ok(());
        }
        self.at = None;
        self.chunks.clear();
        self.next = 0;
        let first = window * WINDOW_PAGES;
        let count = WINDOW_PAGES.min(self.pages - first) as usize;
        self.window.resize(count * PAGE_BYTES, 0);
        if self.blocks.read(first, &mut self.window).is_err() {
            // Its end may be gone; what is there is read page by page.
            self.window.fill(0);
            for (page, block) in self.window.chunks_mut(PAGE_BYTES).zip(first..) {
                let _ = self.blocks.read(block, page);
            }
        }
        let mut lsns = Vec::with_capacity(count);
        for (i, block) in (0..count).zip(first..) {
            // Chunks of a page that cannot be read are not found: their rows are read by SQL.
            lsns.push(self.read_page(i, block).or_else(|_| {
                self.blocks.read(block, &mut self.window[i * PAGE_BYTES..][..PAGE_BYTES])?;
                self.read_page(i, block)
            }));
        }
        let lsns: Vec<Option<u64>> = lsns.into_iter().map(Result::ok).collect();
        self.lsns.entry(window).or_insert(lsns);
        self.at = Some(window);
        self.index(window)
    }

    /// Adds the chunks of the window's page `i`.
    fn read_page(&mut self, i: usize, block: u32) -> Result<u64, Fallback> {
        let before = self.chunks.len();
        let bytes: &[u8; PAGE_BYTES] =
            self.window[i * PAGE_BYTES..][..PAGE_BYTES].try_into().expect("a page");
        let page = Page::read(bytes, block, &self.rules)?;
        for place in page.tuples(0..u16::MAX) {
            let chunk = place.and_then(|place| chunk_at(bytes, i * PAGE_BYTES, place));
            match chunk {
                Ok(chunk) => self.chunks.push(chunk),
                Err(fault) => {
                    self.chunks.truncate(before);
                    return Err(fault);
                }
            }
        }
        Ok(page.lsn)
    }

    fn index(&mut self, window: u32) -> Result<(), Fallback> {
        if std::mem::replace(&mut self.is_indexed[window as usize], true) {
            return Ok(());
        }
        if self.runs.len() + self.chunks.len() > RUNS_MAX {
            return Err(Fallback::Toast);
        }
        let mut before: Option<Chunk> = None;
        for (index, chunk) in (0..).zip(&self.chunks) {
            let follows =
                before.is_some_and(|it| it.id == chunk.id && it.number + 1 == chunk.number);
            if !follows {
                self.runs.insert((chunk.id, chunk.number), (window, index));
            }
            before = Some(*chunk);
        }
        Ok(())
    }
}

/// The chunk that a tuple of a TOAST table is: id and number, four bytes each, then its bytes with a
/// length of four or of one before them.
fn chunk_at(page: &[u8], start: usize, place: Place) -> Result<Chunk, Fallback> {
    let tuple = &page[place.start..place.end];
    let header = TupleHeader::of(tuple);
    let data = header.data;
    if header.has_nulls || header.attributes != 3 || tuple.len() < data + 12 {
        return Err(Fallback::Damaged);
    }
    let (length, from) = match tuple[data + 8] {
        1 => return Err(Fallback::Damaged),
        short if short & 1 == 1 => (usize::from(short >> 1), 1),
        _ => {
            let word = u32_at(tuple, data + 8);
            let is_plain = word & 3 == 0;
            (if is_plain { (word >> 2) as usize } else { 0 }, 4)
        }
    };
    if length < from || data + 8 + length > tuple.len() {
        return Err(Fallback::Damaged);
    }
    let at = |offset: usize| u32::try_from(offset).expect("a window has fewer than 2^32 bytes");
    Ok(Chunk {
        id: u32_at(tuple, data),
        number: u32_at(tuple, data + 4),
        start: at(start + place.start + data + 8 + from),
        length: at(length - from),
    })
}
