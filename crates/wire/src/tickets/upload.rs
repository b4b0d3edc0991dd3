//! The name of a table that a client uploads: it becomes a file's name, so little may be in it.

use std::fmt;

use arrowhop_types::Problems;

/// The first element of a descriptor's path that names an upload.
pub const UPLOAD: &str = "upload";

const BYTES_MAX: usize = 100;

/// A name of at most 100 letters, digits, `_`, `-` and `.`, which does not begin with `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadName(String);

impl UploadName {
    /// The name that a descriptor's path gives, `["upload", NAME]`; `None` where it names no upload.
    ///
    /// # Errors
    /// When it is no name for an upload.
    pub fn of_path(path: &[String]) -> Result<Option<Self>, Problems> {
        match path {
            [first, name] if first == UPLOAD => name.as_str().try_into().map(Some),
            _ => Ok(None),
        }
    }

    /// The path that names it.
    #[must_use]
    pub fn to_path(&self) -> Vec<String> {
        vec![UPLOAD.to_owned(), self.0.clone()]
    }
}

impl TryFrom<&str> for UploadName {
    type Error = Problems;

    fn try_from(name: &str) -> Result<Self, Problems> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || name.len() > BYTES_MAX || name.starts_with('.') {
            let text = format!("is not of 1 to {BYTES_MAX} bytes, the first of them no dot");
            return Err(Problems::one(format!("upload {name:.100}"), text));
        }
        if !name.bytes().all(is_plain) {
            let text = "has other characters than letters, digits, `_`, `-` and `.`";
            return Err(Problems::one(format!("upload {name:.100}"), text));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for UploadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_folder() {
        for name in ["people", "people-2.v1", "_", &"a".repeat(100)] {
            let name = UploadName::try_from(name).unwrap();
            assert_eq!(UploadName::of_path(&name.to_path()), Ok(Some(name)));
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", "a\0", &"a".repeat(101)]
        {
            assert!(UploadName::try_from(name).is_err(), "{name}");
        }
        let other = ["cifar10", "train"].map(ToOwned::to_owned);
        assert_eq!(UploadName::of_path(&other), Ok(None));
        assert_eq!(UploadName::of_path(&other[..1]), Ok(None));
    }
}
