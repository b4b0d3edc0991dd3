//! A value's bytes: how they are laid out, where the next one begins, and that they may be none.

/// Why bytes are no value of their column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Which way bytes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As `typsend` writes them.
    Wire,
    /// As in a heap tuple, without the length of those that vary.
    Heap,
}

/// Values with a length before each, as tuples and arrays of the binary protocol have them.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next value; nothing for null.
    pub(super) fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        const SHORT: Malformed = Malformed("is cut short");
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(SHORT)?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            self.0 = rest;
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Malformed("has a negative length"))?;
        let (value, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(Some(value))
    }
}
