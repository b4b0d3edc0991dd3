//! One numpy array: a header that is a Python literal, then the numbers. Source: the `.npy` format,
//! numpy's NEP 1.

use crate::arrays::floats;

const MAGIC: &[u8] = b"\x93NUMPY";
/// The data begins at a multiple of this.
const ALIGNMENT: usize = 64;
/// Longer headers describe no plain array.
pub(crate) const HEADER_BYTES_MAX: usize = 64 << 10;

/// What a file says about its array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// `<f4` is a little-endian f32.
    descr: String,
    /// Columns before rows.
    fortran_order: bool,
    pub(crate) shape: Vec<usize>,
    /// Where the numbers begin.
    data: usize,
}

/// Reads the header, of which `file` has at least the first [`HEADER_BYTES_MAX`] bytes.
pub(crate) fn header(file: &[u8]) -> Result<Header, String> {
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

/// The array's numbers, row by row.
pub(crate) fn values(file: &[u8], header: &Header) -> Result<Vec<f32>, String> {
    if header.descr != "<f4" {
        return Err(format!("holds '{}' in the file; save it as float32", header.descr));
    }
    if header.fortran_order && header.shape.len() > 1 {
        return Err("is in Fortran's order; save np.ascontiguousarray of it".to_owned());
    }
    let data = file.get(header.data..).unwrap_or_default();
    let wanted = header.shape.iter().try_fold(4_usize, |bytes, &extent| bytes.checked_mul(extent));
    if wanted != Some(data.len()) {
        return Err(format!("has {} bytes of data for shape {:?}", data.len(), header.shape));
    }
    Ok(floats(data))
}

/// A file's header; the numbers follow.
pub(crate) fn header_of(shape: &[usize]) -> Vec<u8> {
    let mut extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
    if let [one] = extents.as_mut_slice() {
        one.push(',');
    }
    let text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", extents.join(", "));
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
            let mut file = header_of(&shape);
            assert_eq!(file.len() % ALIGNMENT, 0);
            let count: usize = shape.iter().product();
            file.extend((0..count).flat_map(|_| 1.5_f32.to_le_bytes()));
            let header = header(&file).unwrap();
            assert_eq!(header.shape, shape);
            assert_eq!(values(&file, &header).unwrap(), vec![1.5; count]);
        }
    }

    #[test]
    fn what_is_no_plain_array_of_floats_says_so() {
        let refused = |from: &str, to: &str| {
            let mut file = String::from_utf8_lossy(&header_of(&[2, 2])[10..]).replace(from, to);
            file.truncate(118);
            let mut bytes = header_of(&[2, 2])[..10].to_vec();
            bytes.extend(file.bytes());
            bytes.extend([0; 16]);
            header(&bytes).and_then(|header| values(&bytes, &header)).unwrap_err()
        };
        assert_eq!(refused("<f4", "<f8"), "holds '<f8' in the file; save it as float32");
        assert!(refused("False", "True ").contains("Fortran"));
        let huge = refused("(2, 2)", "(99999999999, 99999999999)");
        assert!(huge.starts_with("has 16 bytes of data for shape [99999999999"), "{huge}");
        assert_eq!(refused("(2, 2)", "(-1, 2)"), "has a header that describes no plain array");
        assert_eq!(header(b"PK"), Err("is no numpy array".to_owned()));
        assert_eq!(header(b"\x93NUMPY\x02\0\xff\xff\xff\xff"), Err("has a damaged header".into()));
    }
}
