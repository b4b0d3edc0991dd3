//! Layers of several inputs: element by element, side by side, and dot products.

use burn::tensor::Tensor;

use super::shape::{RANK, aligned, dims_of};
use crate::layer::Merge;
use crate::value::Value;

/// Below this, the square of a vector's length counts as this when it is scaled to length 1.
/// Source: Keras's `ops.normalize`, whose vectors are at least 1e-7 long.
const SQUARE_MIN: f64 = 1e-14;

/// Merges element by element. Inputs of fewer axes stand at the end of those of more; axes of one
/// cell are repeated.
pub(crate) fn merge(merge: Merge, inputs: Vec<Value>, output: &[usize]) -> Value {
    let (count, batch) = (inputs.len(), inputs[0].batch());
    let dims = dims_of(batch, output);
    let inputs = inputs.into_iter().map(aligned);
    let merged: Option<Tensor<RANK>> = match merge {
        Merge::Add | Merge::Average => inputs.reduce(|sum, x| sum + x),
        Merge::Subtract => inputs.reduce(|difference, x| difference - x),
        Merge::Multiply => inputs.reduce(|product, x| product * x),
        Merge::Maximum => inputs.map(|x| x.expand(dims)).reduce(Tensor::max_pair),
        Merge::Minimum => inputs.map(|x| x.expand(dims)).reduce(Tensor::min_pair),
    };
    let merged = merged.expect("a merge has inputs");
    let merged = match merge {
        Merge::Average => merged / single(count),
        _ => merged,
    };
    Value::of(merged).reshape(output.to_vec())
}

#[expect(clippy::cast_precision_loss, reason = "a layer has fewer than 2^24 inputs")]
fn single(count: usize) -> f32 {
    count as f32
}

/// Puts the inputs side by side along an axis.
pub(crate) fn concatenate(inputs: Vec<Value>, axis: usize, output: &[usize]) -> Value {
    let batch = inputs[0].batch();
    let before: usize = output[..axis].iter().product();
    let side_by_side = |value: Value| {
        let elements: usize = value.shape().iter().product();
        value.rows().reshape([batch * before, elements / before])
    };
    let rows = Tensor::cat(inputs.into_iter().map(side_by_side).collect(), 1);
    let elements: usize = output.iter().product();
    Value::of_rows(rows.reshape([batch, elements]), output.to_vec())
}

/// Contracts one axis of each input. Source: Keras's `batch_dot`.
pub(crate) fn dot(
    inputs: Vec<Value>,
    axes: [usize; 2],
    normalizes: bool,
    output: &[usize],
) -> Value {
    let [left, right] = <[Value; 2]>::try_from(inputs).expect("a Dot layer has two inputs");
    let left = with_axis_last(left, axes[0], normalizes);
    let right = with_axis_last(right, axes[1], normalizes);
    Value::of(left.matmul(right.swap_dims(1, 2))).reshape(output.to_vec())
}

/// (batch, other elements, axis).
fn with_axis_last(x: Value, axis: usize, normalizes: bool) -> Tensor<3> {
    let batch = x.batch();
    let (before, after) = (&x.shape()[..axis], &x.shape()[axis + 1..]);
    let (before, after): (usize, usize) = (before.iter().product(), after.iter().product());
    let size = x.shape()[axis];
    let x: Tensor<4> = x.rows().reshape([batch, before, size, after]);
    let vectors = x.permute([0, 1, 3, 2]).reshape([batch, before * after, size]);
    if !normalizes {
        return vectors;
    }
    let squares = (vectors.clone() * vectors.clone()).sum_dim(2);
    vectors / squares.clamp_min(SQUARE_MIN).sqrt()
}

/// Numbers without a source are Keras's.
#[cfg(test)]
mod tests {
    use super::super::check::{Case, numbers};
    use super::*;
    use crate::layer::Operation;

    type Element = fn(f32, f32) -> f32;

    #[test]
    fn merges_broadcast_axes_of_one_and_missing_ones() {
        let [x, y] = [0, 1].map(|seed| numbers(6, seed));
        let expect = |operation: Element| -> Vec<f32> {
            (0..6).map(|i| operation(x[i], y[i % 3])).collect()
        };
        let table: [(Merge, Element); 6] = [
            (Merge::Add, |x, y| x + y),
            (Merge::Subtract, |x, y| x - y),
            (Merge::Multiply, |x, y| x * y),
            (Merge::Average, |x, y| (x + y) / 2.0),
            (Merge::Maximum, f32::max),
            (Merge::Minimum, f32::min),
        ];
        for (merge, expected) in table {
            let inputs: [&[&[usize]]; 2] = [&[&[2, 3], &[3]], &[&[2, 1, 3], &[1, 1, 3]]];
            for (inputs, output) in inputs.into_iter().zip([&[2, 3][..], &[2, 1, 3]]) {
                let operation = Operation::Merge(merge);
                let case = Case { operation, inputs, weights: &[], output };
                case.gives(&expect(expected));
                case.has_true_gradients();
            }
        }
    }

    #[test]
    fn more_than_two_inputs() {
        let case = Case {
            operation: Operation::Merge(Merge::Maximum),
            inputs: &[&[2, 3], &[3], &[2, 1]],
            weights: &[],
            output: &[2, 3],
        };
        case.gives(&[0.01, 0.01, 0.22, 0.38, 0.43, 0.8]);
        case.has_true_gradients();
    }

    #[test]
    fn concatenation_along_either_axis() {
        let (x, y) = (numbers(4, 0), numbers(6, 1));
        let rows = Case {
            operation: Operation::Concatenate { axis: 0 },
            inputs: &[&[2, 2], &[3, 2]],
            weights: &[],
            output: &[5, 2],
        };
        rows.gives(&[x.clone(), y.clone()].concat());
        rows.has_true_gradients();
        let columns = Case {
            operation: Operation::Concatenate { axis: 1 },
            inputs: &[&[2, 2], &[2, 3]],
            weights: &[],
            output: &[2, 5],
        };
        columns.gives(&[&x[..2], &y[..3], &x[2..], &y[3..]].concat());
    }

    #[test]
    fn dot_contracts_one_axis_of_each() {
        let case = |axes, normalizes, inputs, output| {
            let operation = Operation::Dot { axes, normalizes };
            let case = Case { operation, inputs, weights: &[], output };
            case.has_true_gradients();
            case
        };
        case([0, 1], false, &[&[2, 3], &[2, 2]], &[3, 2])
            .gives(&[0.537, -0.1956, 0.2891, 0.1041, 0.0412, 0.4038]);
        case([1, 0], false, &[&[2, 3], &[3]], &[2]).gives(&[0.5798, 0.0803]);
        case([2, 1], false, &[&[2, 1, 3], &[2, 3]], &[2, 1, 2])
            .gives(&[0.5798, -1.0305, 0.0803, -0.1758]);
        case([0, 0], true, &[&[3], &[3]], &[1]).gives(&[0.770_061]);
        case([0, 1], true, &[&[3, 2, 2], &[2, 3]], &[2, 2, 2]).gives(&[
            0.649_993, -0.032_111, 0.436_126, 0.160_671, 0.639_131, -0.974_958, 0.405_068,
            -0.828_854,
        ]);
    }
}
