//! Little-endian f32, one array after the other in `get_weights()` order: MADlib's `model_weights`.
//! It has neither names nor shapes, so that only its length can be checked.

use arrowhop_types::Problems;

use crate::arrays::{ArraySpec, bytes, floats};
use crate::assign::finite;

/// Every array of a network.
pub(crate) fn read(file: &[u8], wanted: &[ArraySpec]) -> Result<Vec<Vec<f32>>, Problems> {
    let elements: usize = wanted.iter().map(ArraySpec::elements).sum();
    if file.len() != 4 * elements {
        let text = format!(
            "has {} bytes, but the network's {elements} weights of 4 bytes are {}",
            file.len(),
            4 * elements
        );
        return Err(Problems::one("file", text));
    }
    let mut problems = Problems::new();
    let mut rest = file;
    let mut values = Vec::with_capacity(wanted.len());
    for array in wanted {
        let (of_array, after) = rest.split_at(4 * array.elements());
        let numbers = floats(of_array);
        if let Err(text) = finite(array, &numbers) {
            problems.push(&array.name, text);
        }
        values.push(numbers);
        rest = after;
    }
    problems.or(values)
}

/// The file's bytes.
pub(crate) fn encode(values: &[Vec<f32>]) -> Vec<u8> {
    values.iter().flat_map(|values| bytes(values)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arrays;

    #[test]
    fn only_the_right_length_of_numbers_is_read() {
        let wanted = arrays(&[("a/kernel", &[2, 1]), ("a/bias", &[1])]);
        let file = encode(&[vec![1.0, 2.0], vec![3.0]]);
        assert_eq!(file.len(), 12);
        assert_eq!(read(&file, &wanted).unwrap(), [vec![1.0, 2.0], vec![3.0]]);
        let short = read(&file[..11], &wanted).unwrap_err().to_string();
        assert_eq!(short, "file: has 11 bytes, but the network's 3 weights of 4 bytes are 12");
        let odd = encode(&[vec![1.0, f32::INFINITY], vec![f32::NAN]]);
        let problems = read(&odd, &wanted).unwrap_err().to_string();
        assert_eq!(
            problems,
            "a/kernel: is inf at [1, 0]; weights must be finite numbers\n\
             a/bias: is NaN at [0]; weights must be finite numbers"
        );
    }
}
