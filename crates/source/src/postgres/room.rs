//! Memory that grows, in large pages where it is large: most of the time that reading takes beyond
//! a copy of the bytes would else go into the kernel's handing out of small pages.

use arrow::buffer::{Buffer, MutableBuffer};
use bytes::Bytes;
use memmap2::{Advice, MmapMut};

/// From this size on memory is mapped on its own, in multiples of it: a large page of most machines.
const LARGE: usize = 2 << 20;

/// Bytes that grow, and become an Arrow buffer without a copy.
pub(super) enum Room {
    Small(MutableBuffer),
    Large { map: MmapMut, length: usize },
}

impl Default for Room {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Room {
    /// Room for so many bytes, none of them taken.
    pub(super) fn new(bytes: usize) -> Self {
        match large(bytes) {
            Some(map) => Self::Large { map, length: 0 },
            None => Self::Small(MutableBuffer::new(bytes)),
        }
    }

    /// Bytes taken.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Small(buffer) => buffer.len(),
            Self::Large { length, .. } => *length,
        }
    }

    /// Makes room for more bytes than are taken.
    pub(super) fn reserve(&mut self, more: usize) {
        let needed = self.len() + more;
        let capacity = match self {
            Self::Small(buffer) => buffer.capacity(),
            Self::Large { map, .. } => map.len(),
        };
        if needed <= capacity {
            return;
        }
        let mut larger = Self::new(needed.max(2 * capacity));
        larger.extend(self.as_slice());
        *self = larger;
    }

    /// Appends bytes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if let Self::Small(buffer) = self
            && buffer.len() + bytes.len() < LARGE
        {
            buffer.extend_from_slice(bytes);
        } else {
            self.grow(bytes.len()).copy_from_slice(bytes);
        }
    }

    /// Takes so many more bytes, whatever is in them.
    pub(super) fn grow(&mut self, more: usize) -> &mut [u8] {
        self.reserve(more);
        match self {
            Self::Small(buffer) => {
                let before = buffer.len();
                buffer.resize(before + more, 0);
                &mut buffer.as_slice_mut()[before..]
            }
            Self::Large { map, length } => {
                let before = *length;
                *length += more;
                &mut map[before..*length]
            }
        }
    }

    /// Gives bytes back, so that so many are left.
    pub(super) fn truncate(&mut self, bytes: usize) {
        match self {
            Self::Small(buffer) => buffer.truncate(bytes),
            Self::Large { length, .. } => *length = bytes.min(*length),
        }
    }

    /// The bytes taken.
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Small(buffer) => buffer.as_slice(),
            Self::Large { map, length } => &map[..*length],
        }
    }

    /// The bytes taken.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        match self {
            Self::Small(buffer) => buffer.as_slice_mut(),
            Self::Large { map, length } => &mut map[..*length],
        }
    }

    /// The bytes taken, as a buffer; aligned to 64 bytes at least.
    pub(super) fn into_buffer(self) -> Buffer {
        match self {
            Self::Small(buffer) => buffer.into(),
            Self::Large { map, length } => Buffer::from(Bytes::from_owner(map).slice(..length)),
        }
    }
}

/// Memory of this size in large pages, if it is large and is to be had.
fn large(bytes: usize) -> Option<MmapMut> {
    if bytes < LARGE {
        return None;
    }
    let map = MmapMut::map_anon(bytes.checked_next_multiple_of(LARGE)?).ok()?;
    // Where the kernel has none, small pages do.
    let _ = map.advise(Advice::HugePage);
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_across_the_sizes_and_keeps_its_bytes() {
        let mut room = Room::new(0);
        let mut wanted = Vec::new();
        for i in 0..1_000_u32 {
            let bytes = vec![u8::try_from(i % 251).unwrap(); 5_000];
            if i % 2 == 0 {
                room.extend(&bytes);
            } else {
                room.grow(5_000).copy_from_slice(&bytes);
            }
            wanted.extend(bytes);
        }
        room.truncate(4_000_001);
        wanted.truncate(4_000_001);
        room.extend(&[7]);
        wanted.push(7);
        assert_eq!((room.len(), room.into_buffer().as_slice()), (wanted.len(), wanted.as_slice()));
    }
}
