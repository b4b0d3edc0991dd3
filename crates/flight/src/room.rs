//! Memory for a shard's bodies: many in one allocation, one after the other, so that what an allocator
//! rounds up to is paid once in a while and not for every batch.

use bytes::{BufMut, Bytes, BytesMut};

/// As Arrow wants its bodies.
const ALIGNMENT: usize = 64;
/// The largest allocation for more than one body. What of it is not used is not touched.
const ROOM_BYTES_MAX: usize = 64 << 20;

/// Takes in bodies.
#[derive(Debug, Default)]
pub(crate) struct Room {
    free: BytesMut,
    kept: usize,
}

impl Room {
    /// Copies a body's pieces into one, aligned to 64 bytes.
    pub(crate) fn keep<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
        let bytes: usize = pieces.clone().map(<[u8]>::len).sum();
        let needed = bytes + ALIGNMENT;
        if self.free.capacity() < needed {
            // As much again as is kept: little shards take little.
            self.free = BytesMut::with_capacity(needed.max(self.kept.min(ROOM_BYTES_MAX)));
        }
        let padding = self.free.as_ptr().align_offset(ALIGNMENT);
        self.free.put_bytes(0, padding);
        drop(self.free.split());
        pieces.for_each(|piece| self.free.extend_from_slice(piece));
        self.kept += bytes;
        self.free.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_lie_one_after_the_other_aligned_and_whole() {
        let mut room = Room::default();
        let sizes = [100, 64, 1, 0, 9_000, 3_000, 3_000, 70];
        let bodies: Vec<_> = (0_u8..)
            .zip(sizes)
            .map(|(value, size)| {
                room.keep([&vec![value; size / 2][..], &vec![value; size - size / 2]].into_iter())
            })
            .collect();
        for ((value, body), size) in (0_u8..).zip(&bodies).zip(sizes) {
            assert_eq!(**body, vec![value; size]);
            assert_eq!(body.as_ptr().align_offset(ALIGNMENT), 0);
        }
        // The second of 3,000 fits beside the first.
        let after = bodies[6].as_ptr() as usize - bodies[5].as_ptr() as usize;
        assert_eq!(after, 3_008);
    }
}
