//! The numbers of a numpy array, as weights are: f32, row by row.

use arrowhop_npy::Header;

use crate::arrays::floats;

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

#[cfg(test)]
mod tests {
    use arrowhop_npy::{header, header_of};

    use super::*;

    #[test]
    fn shapes_go_there_and_back() {
        for shape in [vec![], vec![7], vec![2, 3], vec![3, 3, 1, 4]] {
            let mut file = header_of("<f4", &shape);
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
            let mut file =
                String::from_utf8_lossy(&header_of("<f4", &[2, 2])[10..]).replace(from, to);
            file.truncate(118);
            let mut bytes = header_of("<f4", &[2, 2])[..10].to_vec();
            bytes.extend(file.bytes());
            bytes.extend([0; 16]);
            header(&bytes).and_then(|header| values(&bytes, &header)).unwrap_err()
        };
        assert_eq!(refused("<f4", "<f8"), "holds '<f8' in the file; save it as float32");
        assert!(refused("False", "True ").contains("Fortran"));
        let huge = refused("(2, 2)", "(99999999999, 99999999999)");
        assert!(huge.starts_with("has 16 bytes of data for shape [99999999999"), "{huge}");
        assert_eq!(refused("(2, 2)", "(-1, 2)"), "has a header that describes no plain array");
    }
}
