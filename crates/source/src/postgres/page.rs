//! One page of a heap, as PostgreSQL 14 to 17 lay it out (`src/include/storage/bufpage.h`,
//! `itemid.h`): its header, its line pointers, and which of its tuples a snapshot sees that was taken
//! while nobody could write.
//!
//! ```text
//! 0   8          10      12      14      16       18            20         24
//! ├───┼──────────┼───────┼───────┼───────┼────────┼─────────────┼──────────┼──────────────┬─ ─┬────────┐
//! │LSN│ checksum │ flags │ lower │ upper │special │ size+version│ pruned by│ line pointers│   │ tuples │
//! └───┴──────────┴───────┴───────┴───────┴────────┴─────────────┴──────────┴──────────────┴─ ─┴────────┘
//!                            └ line pointers end here  └ tuples begin at `upper`
//! ```

use std::ops::Range;

use super::checksum;
use super::value::Malformed;

/// Bytes of a page.
pub(super) const PAGE_BYTES: usize = 8_192;
/// Bytes of its header.
const HEADER_BYTES: usize = 24;
/// Page size and layout version 4, in one word.
const SIZE_AND_VERSION: u16 = 8_192 | 4;
/// Every tuple on the page is visible to everybody (`PD_ALL_VISIBLE`).
const ALL_VISIBLE: u16 = 4;
/// Bytes of a tuple's header, without its map of nulls.
const TUPLE_HEADER_BYTES: usize = 23;

// Bits of `t_infomask` (`src/include/access/htup_details.h`).
const HAS_NULLS: u16 = 0x0001;
const XMAX_EXCLUSIVE_LOCK: u16 = 0x0040;
const XMAX_LOCK_ONLY: u16 = 0x0080;
const XMIN_COMMITTED: u16 = 0x0100;
const XMIN_INVALID: u16 = 0x0200;
const XMIN_FROZEN: u16 = XMIN_COMMITTED | XMIN_INVALID;
const XMAX_COMMITTED: u16 = 0x0400;
const XMAX_INVALID: u16 = 0x0800;
const XMAX_IS_MULTI: u16 = 0x1000;
const MOVED: u16 = 0xc000;
const LOCK_BITS: u16 = 0x00d0;
/// Attributes of a tuple, in `t_infomask2`.
const ATTRIBUTES: u16 = 0x07ff;

/// Why a page is read by SQL instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fallback {
    /// No hint bit says whether a tuple is visible, or a multixact does.
    Undecided,
    /// The page is all zeros.
    Empty,
    /// The page was written while it was read.
    Changed,
    /// Its checksum is not that of its bytes.
    Checksum,
    /// Its bytes are no page, no tuple or no value of a column's type.
    Damaged,
    /// A long value's pieces are not where they should be.
    Toast,
    /// It cannot be read at all.
    Unreadable,
}

impl Fallback {
    /// For reports.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Undecided => "visibility not decided by hint bits; VACUUM (FREEZE) settles it",
            Self::Empty => "empty page",
            Self::Changed => "written while being read",
            Self::Checksum => "wrong checksum",
            Self::Damaged => "damaged",
            Self::Toast => "long value not found",
            Self::Unreadable => "unreadable",
        }
    }
}

impl From<Malformed> for Fallback {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

/// What pages of a relation are checked against.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageRules {
    /// Whether they have checksums.
    pub(super) has_checksums: bool,
    /// Pages beyond this position in the log were written after the lock was taken.
    pub(super) lsn_max: u64,
}

/// A page whose header is sound.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) bytes: &'a [u8; PAGE_BYTES],
    /// The position in the log of its last change.
    pub(super) lsn: u64,
    is_all_visible: bool,
    upper: usize,
    items: usize,
}

/// A tuple in its page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Where its header begins.
    pub(super) start: usize,
    /// Where its bytes end.
    pub(super) end: usize,
}

impl<'a> Page<'a> {
    /// Reads the header of block `block` of a relation.
    pub(super) fn read(
        bytes: &'a [u8; PAGE_BYTES],
        block: u32,
        rules: &PageRules,
    ) -> Result<Self, Fallback> {
        let upper = usize::from(u16_at(bytes, 14));
        if upper == 0 {
            let is_zero = bytes.iter().all(|&byte| byte == 0);
            return Err(if is_zero { Fallback::Empty } else { Fallback::Damaged });
        }
        let lsn = lsn_of(bytes);
        if rules.has_checksums && u16_at(bytes, 8) != checksum::of_page(bytes, block) {
            return Err(Fallback::Checksum);
        }
        if lsn > rules.lsn_max {
            return Err(Fallback::Changed);
        }
        let (lower, special) = (usize::from(u16_at(bytes, 12)), usize::from(u16_at(bytes, 16)));
        let is_sound = u16_at(bytes, 18) == SIZE_AND_VERSION
            && (HEADER_BYTES..=upper).contains(&lower)
            && upper <= special
            && special == PAGE_BYTES;
        if !is_sound {
            return Err(Fallback::Damaged);
        }
        let is_all_visible = u16_at(bytes, 10) & ALL_VISIBLE != 0;
        Ok(Self { bytes, lsn, is_all_visible, upper, items: (lower - HEADER_BYTES) / 4 })
    }

    /// The tuples of these line pointers, in their order: all of them, dead or alive.
    pub(super) fn tuples(
        &self,
        items: Range<u16>,
    ) -> impl Iterator<Item = Result<Place, Fallback>> {
        const NORMAL: u32 = 1;
        let items = usize::from(items.start)..usize::from(items.end).min(self.items);
        items.filter_map(|item| {
            let pointer = u32_at(self.bytes, HEADER_BYTES + 4 * item);
            if pointer >> 15 & 3 != NORMAL {
                return None;
            }
            let (start, length) = ((pointer & 0x7fff) as usize, (pointer >> 17) as usize);
            let end = start + length;
            let is_sound = start >= self.upper
                && end <= PAGE_BYTES
                && length > TUPLE_HEADER_BYTES
                && start % 8 == 0
                && usize::from(self.bytes[start + 22]) <= length
                && usize::from(self.bytes[start + 22]) > TUPLE_HEADER_BYTES;
            Some(if is_sound { Ok(Place { start, end }) } else { Err(Fallback::Damaged) })
        })
    }

    /// The tuples of these line pointers that the snapshot sees, appended to `places`.
    pub(super) fn visible(
        &self,
        items: Range<u16>,
        places: &mut Vec<Place>,
    ) -> Result<(), Fallback> {
        for place in self.tuples(items) {
            let place = place?;
            if self.is_all_visible || is_visible(&self.bytes[place.start..])? {
                places.push(place);
            }
        }
        Ok(())
    }
}

/// Whether a tuple is visible to a snapshot that was taken while nobody could write to its table:
/// then all transactions that wrote it have ended, and hint bits say how.
fn is_visible(tuple: &[u8]) -> Result<bool, Fallback> {
    let mask = u16_at(tuple, 20);
    if mask & MOVED != 0 {
        return Err(Fallback::Undecided);
    }
    match mask & XMIN_FROZEN {
        XMIN_INVALID => return Ok(false),
        XMIN_COMMITTED | XMIN_FROZEN => {}
        _ => return Err(Fallback::Undecided),
    }
    let is_locked_only =
        mask & XMAX_LOCK_ONLY != 0 || mask & (XMAX_IS_MULTI | LOCK_BITS) == XMAX_EXCLUSIVE_LOCK;
    let xmax = u32_at(tuple, 4);
    if mask & XMAX_INVALID != 0 || is_locked_only {
        Ok(true)
    } else if mask & XMAX_IS_MULTI != 0 {
        Err(Fallback::Undecided)
    } else if mask & XMAX_COMMITTED != 0 {
        Ok(false)
    } else if xmax == 0 {
        Ok(true)
    } else {
        Err(Fallback::Undecided)
    }
}

/// What a tuple's header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct TupleHeader {
    /// How many attributes it has; later ones were added after it was written.
    pub(super) attributes: usize,
    /// Whether it has a map of nulls.
    pub(super) has_nulls: bool,
    /// Where its first attribute begins, from its own start.
    pub(super) data: usize,
}

impl TupleHeader {
    pub(super) fn of(tuple: &[u8]) -> Self {
        Self {
            attributes: usize::from(u16_at(tuple, 18) & ATTRIBUTES),
            has_nulls: u16_at(tuple, 20) & HAS_NULLS != 0,
            data: usize::from(tuple[22]),
        }
    }
}

/// A page's position in the log: two halves, the higher first (`PageXLogRecPtr`).
pub(super) fn lsn_of(page: &[u8]) -> u64 {
    u64::from(u32_at(page, 0)) << 32 | u64::from(u32_at(page, 4))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
