//! One numpy array: a header that is a Python literal, then the numbers. Source: the `.npy` format,
//! numpy's NEP 1. This crate knows headers; numbers are their users' own.

const MAGIC: &[u8] = b"\x93NUMPY";
/// The data begins at a multiple of this.
const ALIGNMENT: usize = 64;
/// Longer headers describe no plain array.
pub const HEADER_BYTES_MAX: usize = 64 << 10;

/// What a file says about its array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The type of its elements: `<f4` is a little-endian f32.
    pub descr: String,
    /// Columns before rows.
    pub fortran_order: bool,
    /// The lengths along its axes.
    pub shape: Vec<usize>,
    /// Where the numbers begin.
    pub data: usize,
}

/// Reads the header, of which `file` has at least the first [`HEADER_BYTES_MAX`] bytes.
///
/// # Errors
/// What is wrong with it.
pub fn header(file: &[u8]) -> Result<Header, String> {
    let rest = file.strip_prefix(MAGIC).ok_or("is no numpy array")?;
    let (length, begin): (usize, usize) = match *rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 10),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 12),
        _ => return Err("is of an unknown version of numpy's format".to_owned()),
    };
    let text = begin.checked_add(length).and_then(|end| file.get(begin..end));
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    let text = text.ok_or("has a damaged header")?;
    let value = |key: &str| {
        let (_, after) = text.split_once(&format!("'{key}':"))?;
        Some(after.trim_start())
    };
    let parsed = (|| {
        let descr = value("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
        let fortran_order = value("fortran_order")?.starts_with("True");
        let extents = value("shape")?.strip_prefix('(')?.split_once(')')?.0;
        let extents = extents.split(',').map(str::trim).filter(|extent| !extent.is_empty());
        let shape = extents.map(|extent| extent.parse().ok()).collect::<Option<Vec<usize>>>()?;
        Some(Header { descr, fortran_order, shape, data: begin + length })
    })();
    parsed.ok_or_else(|| "has a header that describes no plain array".to_owned())
}

/// The header of a file of these elements; they follow it.
///
/// # Panics
/// When the shape has thousands of axes.
#[must_use]
pub fn header_of(descr: &str, shape: &[usize]) -> Vec<u8> {
    let mut extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
    if let [one] = extents.as_mut_slice() {
        one.push(',');
    }
    let text = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}",
        extents.join(", ")
    );
    // Magic, version and length are ten bytes; the text ends in a line break.
    let length = (10 + text.len() + 1).next_multiple_of(ALIGNMENT) - 10;
    let mut file = [MAGIC, &[1, 0]].concat();
    file.extend(u16::try_from(length).expect("a shape is short").to_le_bytes());
    file.extend(format!("{text:<width$}\n", width = length - 1).bytes());
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_go_there_and_back() {
        for shape in [vec![], vec![7], vec![2, 3], vec![3, 3, 1, 4]] {
            let file = header_of("<f4", &shape);
            assert_eq!(file.len() % ALIGNMENT, 0);
            let header = header(&file).unwrap();
            assert_eq!((header.shape, header.data), (shape, file.len()));
            assert_eq!((header.descr.as_str(), header.fortran_order), ("<f4", false));
        }
    }

    #[test]
    fn damaged_headers_are_refused() {
        assert_eq!(header(b"PK"), Err("is no numpy array".to_owned()));
        assert_eq!(header(b"\x93NUMPY\x02\0\xff\xff\xff\xff"), Err("has a damaged header".into()));
    }
}
