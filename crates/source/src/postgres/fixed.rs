//! Values of a fixed length: in a region of their batch's memory, or, as elements of arrays, in memory
//! of their own. They are kept as Arrow has them, in this machine's order.

use arrow::buffer::Buffer;

use super::kind::Scalar;
use super::numeric;
use super::room::Room;
use super::value::{Layout, Malformed};

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's dates begin.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROSECONDS: i64 = 10_957 * 86_400_000_000;

/// Values of 2, 4, 8 or 16 bytes.
pub(super) struct Fixed {
    scalar: Scalar,
    width: usize,
    /// Nothing where they are in their batch's memory.
    own: Option<Room>,
}

impl Fixed {
    pub(super) fn new(scalar: Scalar, own: Option<Room>) -> Self {
        let width = width(scalar).expect("only values of fixed length are kept so");
        Self { scalar, width, own }
    }

    /// The place for more values behind `rows`.
    fn place<'a>(&'a mut self, region: &'a mut [u8], rows: usize, more: usize) -> &'a mut [u8] {
        match &mut self.own {
            Some(room) => room.grow(more * self.width),
            None => &mut region[rows * self.width..(rows + more) * self.width],
        }
    }

    pub(super) fn push_null(&mut self, region: &mut [u8], rows: usize) {
        self.place(region, rows, 1).fill(0);
    }

    /// A value.
    pub(super) fn push(
        &mut self,
        region: &mut [u8],
        rows: usize,
        bytes: &[u8],
        layout: Layout,
    ) -> Result<(), Malformed> {
        let scalar = self.scalar;
        if scalar == Scalar::Numeric {
            let value = numeric::read(bytes, layout)?;
            self.put(region, rows, value.to_le_bytes());
            return Ok(());
        }
        match self.width {
            2 => self.put(region, rows, own::<2>(bytes, layout)?),
            4 => {
                let value = day(scalar, i32::from_le_bytes(own(bytes, layout)?))?;
                self.put(region, rows, value.to_le_bytes());
            }
            8 => {
                let value = moment(scalar, i64::from_le_bytes(own(bytes, layout)?))?;
                self.put(region, rows, value.to_le_bytes());
            }
            _ => self.put(region, rows, own::<16>(bytes, Layout::Heap)?),
        }
        Ok(())
    }

    fn put<const N: usize>(&mut self, region: &mut [u8], rows: usize, value: [u8; N]) {
        self.place(region, rows, 1).copy_from_slice(&value);
    }

    /// One value from each of these places of a page, which the caller knows to lie in it. Values that
    /// must be looked at one by one are left to the caller.
    pub(super) fn push_strided(
        &mut self,
        region: &mut [u8],
        rows: usize,
        page: &[u8],
        places: impl ExactSizeIterator<Item = usize>,
    ) -> bool {
        if !self.is_copied() {
            return false;
        }
        let width = self.width;
        let to = self.place(region, rows, places.len());
        match width {
            2 => gather::<2>(to, page, places),
            4 => gather::<4>(to, page, places),
            8 => gather::<8>(to, page, places),
            _ => gather::<16>(to, page, places),
        }
        true
    }

    /// One value from each tuple of the binary protocol, all of `stride` bytes, with its length before
    /// it at `at`. Nothing where any of them has another length, or must be looked at.
    pub(super) fn push_tuples(
        &mut self,
        region: &mut [u8],
        rows: usize,
        tuples: &[u8],
        stride: usize,
        at: usize,
    ) -> bool {
        let width = self.width;
        let length = u32::try_from(width).expect("at most 16").to_be_bytes();
        let all = tuples.chunks_exact(stride);
        if !self.is_copied() || !all.clone().all(|tuple| tuple[at..at + 4] == length) {
            return false;
        }
        let to = self.place(region, rows, all.len());
        match width {
            2 => swap::<2>(to, all, at + 4),
            4 => swap::<4>(to, all, at + 4),
            8 => swap::<8>(to, all, at + 4),
            _ => gather::<16>(to, tuples, (0..all.len()).map(|i| i * stride + at + 4)),
        }
        true
    }

    /// Whether its bytes are Arrow's, but for their order.
    fn is_copied(&self) -> bool {
        use Scalar::{Date, Numeric, Timestamp, TimestampTz};
        !matches!(self.scalar, Date | Numeric | Timestamp | TimestampTz)
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        if let Some(room) = &mut self.own {
            room.truncate(rows * self.width);
        }
    }

    /// The values; nothing where they are in their batch's memory.
    pub(super) fn into_buffer(self) -> Option<Buffer> {
        self.own.map(Room::into_buffer)
    }
}

/// Bytes of a value as Arrow has it, if they are always as many, and not bits.
pub(super) fn width(scalar: Scalar) -> Option<usize> {
    match scalar {
        Scalar::Bool => None,
        Scalar::Numeric => Some(8),
        other => other.fixed_length(),
    }
}

fn gather<const N: usize>(to: &mut [u8], from: &[u8], places: impl Iterator<Item = usize>) {
    for (to, at) in to.as_chunks_mut::<N>().0.iter_mut().zip(places) {
        *to = chunk(from, at);
    }
}

fn swap<'a, const N: usize>(to: &mut [u8], tuples: impl Iterator<Item = &'a [u8]>, at: usize) {
    for (to, tuple) in to.as_chunks_mut::<N>().0.iter_mut().zip(tuples) {
        *to = chunk(tuple, at);
        to.reverse();
    }
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a range of N bytes has N bytes")
}

/// A number's bytes, the lowest first.
fn own<const N: usize>(bytes: &[u8], layout: Layout) -> Result<[u8; N], Malformed> {
    let mut bytes: [u8; N] =
        bytes.try_into().map_err(|_| Malformed("has another length than its type"))?;
    if layout == Layout::Wire {
        bytes.reverse();
    }
    Ok(bytes)
}

fn day(scalar: Scalar, value: i32) -> Result<i32, Malformed> {
    if scalar != Scalar::Date {
        return Ok(value);
    }
    let day = value.checked_add(EPOCH_DAYS).filter(|_| value != i32::MIN);
    day.ok_or(Malformed("is an infinite date, which Arrow has no value for; make it null"))
}

fn moment(scalar: Scalar, value: i64) -> Result<i64, Malformed> {
    if !matches!(scalar, Scalar::Timestamp | Scalar::TimestampTz) {
        return Ok(value);
    }
    let moment = value.checked_add(EPOCH_MICROSECONDS).filter(|_| value != i64::MIN);
    moment.ok_or(Malformed("is an infinite timestamp, which Arrow has no value for; make it null"))
}

/// Bytes of a region for so many values, to a whole number of cache lines.
pub(super) fn region_bytes(scalar: Scalar, rows: usize) -> usize {
    width(scalar).map_or(0, |width| (width * rows).next_multiple_of(64))
}
