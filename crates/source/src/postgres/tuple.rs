//! Takes heap tuples apart (`heap_deform_tuple`, `src/include/varatt.h`): attributes one after the
//! other, each aligned as `pg_attribute` says, of a fixed length or with their own.

use super::batches::Batches;
use super::column::Column;
use super::page::{Fallback, PAGE_BYTES, Place, TupleHeader, u32_at};
use super::room::Room;
use super::toast::{Long, Toast};
use super::value::{Layout, Malformed};

/// A value is at most this long: 1 GiB.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// What either compression makes of a byte at most: lz4's 255 and a little.
const EXPANSION_MAX: usize = 256;

/// One attribute of a table, up to the last that is wanted, dropped ones too.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    /// Its column, if it is wanted.
    pub(super) column: Option<usize>,
    /// Its length; nothing for those that bring their own.
    pub(super) length: Option<usize>,
    /// A power of two.
    pub(super) alignment: usize,
    /// What it is in tuples that were written before it was added, in the binary protocol's form;
    /// null if there is nothing.
    pub(super) missing: Option<Vec<u8>>,
}

/// How a table's tuples are laid out.
#[derive(Debug, Clone)]
pub(super) struct TupleLayout {
    attributes: Vec<Attribute>,
    /// Where each attribute lies behind the header, as long as all before it have fixed lengths and
    /// none is null.
    offsets: Vec<usize>,
    /// Bytes behind the header that these take.
    fixed_bytes: usize,
}

impl TupleLayout {
    pub(super) fn new(attributes: Vec<Attribute>) -> Self {
        let mut offsets = Vec::new();
        let mut at = 0_usize;
        for attribute in &attributes {
            let Some(length) = attribute.length else { break };
            at = at.next_multiple_of(attribute.alignment);
            offsets.push(at);
            at += length;
        }
        Self { attributes, offsets, fixed_bytes: at }
    }

    /// How many tuples a page has at most, if none of their values is null.
    pub(super) fn page_rows_max(&self) -> usize {
        // A tuple's header has 23 bytes, to a multiple of 8, and its line pointer 4.
        PAGE_BYTES / ((24 + self.fixed_bytes).next_multiple_of(8) + 4)
    }

    /// Adds the tuples at these places of a page to the columns.
    pub(super) fn push(
        &self,
        page: &[u8; PAGE_BYTES],
        places: &[Place],
        batches: &mut Batches,
        toast: &mut Toast<'_>,
    ) -> Result<(), Fallback> {
        if self.offsets.len() == self.attributes.len()
            && places.iter().all(|at| self.fits(page, at))
        {
            return Ok(self.push_columns(page, places, batches)?);
        }
        for place in places {
            self.push_tuple(&page[place.start..place.end], batches, toast)?;
        }
        Ok(())
    }

    /// Whether a tuple has all attributes where they are when none is null.
    fn fits(&self, page: &[u8], place: &Place) -> bool {
        let header = TupleHeader::of(&page[place.start..]);
        !header.has_nulls
            && header.attributes >= self.attributes.len()
            && place.start + header.data + self.fixed_bytes <= place.end
    }

    /// Column by column: every attribute is at the same distance from its tuple's start.
    fn push_columns(
        &self,
        page: &[u8],
        places: &[Place],
        batches: &mut Batches,
    ) -> Result<(), Malformed> {
        let starts: Vec<usize> =
            places.iter().map(|at| at.start + usize::from(page[at.start + 22])).collect();
        for (attribute, offset) in self.attributes.iter().zip(&self.offsets) {
            if let Some(column) = attribute.column {
                let (column, region) = batches.column(column);
                column.push_strided(region, page, starts.iter().map(|start| start + offset))?;
            }
        }
        Ok(())
    }

    fn push_tuple(
        &self,
        tuple: &[u8],
        batches: &mut Batches,
        toast: &mut Toast<'_>,
    ) -> Result<(), Fallback> {
        let header = TupleHeader::of(tuple);
        let mut at = header.data;
        for (i, attribute) in self.attributes.iter().enumerate() {
            let column = attribute.column.map(|column| batches.column(column));
            if i >= header.attributes {
                match (column, &attribute.missing) {
                    (Some((column, region)), Some(value)) => {
                        column.push(region, value, Layout::Wire)?
                    }
                    (Some((column, region)), None) => column.push_null(region),
                    (None, _) => {}
                }
                continue;
            }
            if header.has_nulls && is_null(tuple, i)? {
                if let Some((column, region)) = column {
                    column.push_null(region);
                }
                continue;
            }
            let Some(length) = attribute.length else {
                let value = Varlena::read(tuple, &mut at, attribute.alignment)?;
                if let Some((column, region)) = column {
                    value.push(column, region, toast)?;
                }
                continue;
            };
            at = at.next_multiple_of(attribute.alignment);
            let value = tuple.get(at..at + length).ok_or(Fallback::Damaged)?;
            at += length;
            if let Some((column, region)) = column {
                column.push(region, value, Layout::Heap)?;
            }
        }
        Ok(())
    }
}

/// Whether an attribute is null; the map behind the header has a bit for each that is not.
fn is_null(tuple: &[u8], attribute: usize) -> Result<bool, Fallback> {
    let byte = tuple.get(23 + attribute / 8).ok_or(Fallback::Damaged)?;
    Ok(byte & (1 << (attribute % 8)) == 0)
}

/// A value that brings its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Varlena<'a> {
    Plain(&'a [u8]),
    Compressed(&'a [u8]),
    External(Long),
}

impl<'a> Varlena<'a> {
    /// The value at or, aligned, behind `at`, which moves on to its end. The first byte says which
    /// header it has: one byte, and no alignment, where its lowest bit is set.
    fn read(tuple: &'a [u8], at: &mut usize, alignment: usize) -> Result<Self, Fallback> {
        const EXTERNAL: u8 = 1;
        let first = |at: usize| tuple.get(at).copied().ok_or(Fallback::Damaged);
        if first(*at)? == 0 {
            // Padding, or the low byte of a length that is aligned already.
            *at = at.next_multiple_of(alignment);
        }
        let start = *at;
        let mut take = |length: usize, header: usize| {
            *at = start + length;
            tuple.get(start + header..start + length).ok_or(Fallback::Damaged)
        };
        match first(start)? {
            EXTERNAL => {
                let pointer = take(Long::POINTER_BYTES, 1)?;
                Ok(Self::External(Long::read(pointer)?))
            }
            short if short & 1 == 1 => Ok(Self::Plain(take(usize::from(short >> 1), 1)?)),
            _ => {
                if tuple.len() < start + 4 {
                    return Err(Fallback::Damaged);
                }
                let word = u32_at(tuple, start);
                let value = take((word >> 2) as usize, 4)?;
                Ok(if word & 3 == 2 { Self::Compressed(value) } else { Self::Plain(value) })
            }
        }
    }

    fn push(
        self,
        column: &mut Column,
        region: &mut [u8],
        toast: &mut Toast<'_>,
    ) -> Result<(), Fallback> {
        if let Self::Plain(value) = self {
            return Ok(column.push(region, value, Layout::Heap)?);
        }
        let mut scratch = std::mem::take(&mut toast.scratch);
        let done = match self {
            Self::External(long) if long.is_compressed() => {
                toast.packed(&long).and_then(|packed| {
                    let done = column
                        .push_written(region, &mut scratch, |to| unpack(packed.as_slice(), to));
                    toast.give_back(packed);
                    done
                })
            }
            Self::External(long) => {
                column.push_written(region, &mut scratch, |to| toast.append(&long, to))
            }
            Self::Plain(value) | Self::Compressed(value) => {
                column.push_written(region, &mut scratch, |to| unpack(value, to))
            }
        };
        toast.scratch = scratch;
        done
    }
}

/// Unpacks a compressed value: its length of 30 bits and its method, then its bytes.
fn unpack(value: &[u8], to: &mut Room) -> Result<(), Fallback> {
    let Some((info, packed)) = value.split_first_chunk::<4>() else {
        return Err(Fallback::Damaged);
    };
    let info = u32::from_le_bytes(*info);
    let length = (info & 0x3fff_ffff) as usize;
    if length > VALUE_BYTES_MAX || length > EXPANSION_MAX * (packed.len() + 1) {
        return Err(Fallback::Damaged);
    }
    let to = to.grow(length);
    let written = match info >> 30 {
        0 => pglz::decompress_into(packed, to, true),
        1 => lz4_flex::block::decompress_into(packed, to).ok(),
        _ => None,
    };
    if written == Some(length) { Ok(()) } else { Err(Fallback::Damaged) }
}
