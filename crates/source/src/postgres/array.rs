//! Array values: their shape, and their elements into a column (`src/include/utils/array.h`).

use super::column::Column;
use super::value::{Fields, Layout, Malformed};

/// An array has at most this many axes (`MAXDIM`).
const AXES_MAX: usize = 6;

/// An array value, its header read.
pub(super) struct Array<'a> {
    axes: [usize; AXES_MAX],
    axis_count: usize,
    layout: Layout,
    /// Which elements are null; all but the heap's have them among the elements.
    nulls: Option<&'a [u8]>,
    elements: &'a [u8],
}

impl<'a> Array<'a> {
    /// Reads a value's header.
    pub(super) fn read(bytes: &'a [u8], layout: Layout) -> Result<Self, Malformed> {
        const SHORT: Malformed = Malformed("is an array that is cut short");
        let word = |at: usize| -> Result<usize, Malformed> {
            let bytes = bytes.get(at..at + 4).ok_or(SHORT)?;
            let bytes = bytes.try_into().expect("four bytes");
            let word = match layout {
                Layout::Wire => u32::from_be_bytes(bytes),
                Layout::Heap => u32::from_le_bytes(bytes),
            };
            Ok(word as usize)
        };
        let axis_count = word(0)?;
        if axis_count > AXES_MAX {
            return Err(Malformed("is an array of more than six axes"));
        }
        let mut axes = [0; AXES_MAX];
        for (i, axis) in axes.iter_mut().enumerate().take(axis_count) {
            // The protocol has length and lower bound in turn, the heap all lengths first.
            *axis = word(12 + if layout == Layout::Wire { 8 * i } else { 4 * i })?;
        }
        let header = 12 + 8 * axis_count;
        let (mut nulls, mut start) = (None, header);
        if layout == Layout::Heap && word(4)? != 0 {
            // Counted from the length before it.
            start = word(4)?.checked_sub(4).ok_or(SHORT)?;
            nulls = Some(bytes.get(header..start).ok_or(SHORT)?);
        }
        let elements = bytes.get(start..).ok_or(SHORT)?;
        Ok(Self { axes, axis_count, layout, nulls, elements })
    }

    /// How many elements it has; more than there are bytes are none.
    fn count(&self) -> Result<usize, Malformed> {
        let axes = &self.axes[..self.axis_count];
        let count = axes.iter().try_fold(1_usize, |count, &axis| count.checked_mul(axis));
        let bound = 8 * (self.elements.len() + self.nulls.map_or(0, <[u8]>::len));
        match count {
            Some(_) if self.axis_count == 0 => Ok(0),
            Some(count) if count <= bound => Ok(count),
            _ => Err(Malformed("is an array of more elements than it has bytes for")),
        }
    }

    /// Its length along every axis.
    pub(super) fn shape(&self) -> &[usize] {
        &self.axes[..self.axis_count]
    }

    /// Adds its elements to a column.
    pub(super) fn push_into(&self, column: &mut Column) -> Result<(), Malformed> {
        let count = self.count()?;
        match self.layout {
            Layout::Wire => push_wire_elements(column, self.elements, count),
            Layout::Heap => self.push_heap_elements(column, count),
        }
    }

    fn push_heap_elements(&self, column: &mut Column, count: usize) -> Result<(), Malformed> {
        const SHORT: Malformed = Malformed("is an array with fewer elements than it says");
        let length = column.fixed_length();
        let length = length.expect("the heap's arrays are read where elements have fixed length");
        let Some(nulls) = self.nulls else {
            let bytes = self.elements.get(..count * length).ok_or(SHORT)?;
            return column.push_strided(&mut [], bytes, (0..count).map(|i| i * length));
        };
        if nulls.len() * 8 < count {
            return Err(SHORT);
        }
        let mut rest = self.elements;
        for i in 0..count {
            if nulls[i / 8] & (1 << (i % 8)) == 0 {
                column.push_null(&mut []);
            } else {
                let (element, after) = rest.split_at_checked(length).ok_or(SHORT)?;
                column.push(&mut [], element, Layout::Heap)?;
                rest = after;
            }
        }
        Ok(())
    }
}

/// Elements with a length before each, −1 for null.
fn push_wire_elements(column: &mut Column, bytes: &[u8], count: usize) -> Result<(), Malformed> {
    // Images as arrays have thousands of elements, all of one length.
    if let Some(length) = column.fixed_length()
        && count > 0
        && bytes.len() == count * (4 + length)
        && column.push_tuples(&mut [], bytes, 4 + length, 0)
    {
        return Ok(());
    }
    let mut fields = Fields(bytes);
    for _ in 0..count {
        match fields.next()? {
            Some(element) => column.push(&mut [], element, Layout::Wire)?,
            None => column.push_null(&mut []),
        }
    }
    if fields.0.is_empty() { Ok(()) } else { Err(Malformed("has bytes behind its last element")) }
}
