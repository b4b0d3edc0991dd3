//! Layers that move, repeat, add or drop elements, and softmax over other axes than the last.

use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, PadMode};
use burn::tensor::{Slice, Tensor, activation};

use super::volume::{split, three, value, volume};
use crate::layer::{AXES_MAX, Layout, UpSampling};
use crate::value::Value;

/// Axes of a tensor that holds a value of any shape: the batch, and as many as a value may have.
pub(crate) const RANK: usize = 1 + AXES_MAX;

/// (batch, 1…, shape…): values of all ranks are handled alike, and broadcast as Keras does.
pub(crate) fn aligned(x: Value) -> Tensor<RANK> {
    let dims = dims_of(x.batch(), x.shape());
    x.rows().reshape(dims)
}

/// (batch, 1…, shape…).
pub(crate) fn dims_of(batch: usize, shape: &[usize]) -> [usize; RANK] {
    let mut dims = [1; RANK];
    dims[0] = batch;
    dims[RANK - shape.len()..].copy_from_slice(shape);
    dims
}

/// One for each axis of [`aligned`] values; `missing` for the batch and the leading ones.
fn for_axes<T: Copy>(given: &[T], missing: T) -> [T; RANK] {
    let mut all = [missing; RANK];
    all[RANK - given.len()..].copy_from_slice(given);
    all
}

/// To one axis; channels first are moved last before.
pub(crate) fn flatten(layout: Layout, x: Value) -> Value {
    let elements = x.shape().iter().product();
    if layout == Layout::ChannelsLast || x.shape().len() < 2 {
        return x.reshape(vec![elements]);
    }
    let (batch, (channels, _)) = (x.batch(), split(x.shape(), layout));
    let by_channel: Tensor<3> = x.rows().reshape([batch, channels, elements / channels]);
    Value::of(by_channel.swap_dims(1, 2)).reshape(vec![elements])
}

/// Output axis i is input axis `axes[i]`.
pub(crate) fn permute(axes: &[usize], x: Value) -> Value {
    let shape = axes.iter().map(|&axis| x.shape()[axis]).collect();
    let leading = RANK - axes.len();
    let mut order: [usize; RANK] = std::array::from_fn(|axis| axis);
    for (place, axis) in order[leading..].iter_mut().zip(axes) {
        *place = leading + axis;
    }
    Value::of(aligned(x).permute(order)).reshape(shape)
}

/// A vector, `count` times.
pub(crate) fn repeat(count: usize, x: Value) -> Value {
    let (batch, elements) = (x.batch(), x.shape().iter().product());
    let once: Tensor<3> = x.rows().reshape([batch, 1, elements]);
    Value::of(once.expand([batch, count, elements]))
}

/// Zeros before and after, for each axis.
pub(crate) fn pad(cells: &[(usize, usize)], x: Value) -> Value {
    let shape = x.shape().iter().zip(cells).map(|(size, (before, after))| size + before + after);
    let shape = shape.collect();
    let padded = aligned(x).pad(for_axes(cells, (0, 0)), PadMode::Constant(0.0));
    Value::of(padded).reshape(shape)
}

/// Without the cells before and after, for each axis.
pub(crate) fn crop(cells: &[(usize, usize)], x: Value) -> Value {
    let kept = x.shape().iter().zip(cells).map(|(&size, &(before, after))| before..size - after);
    let shape = kept.clone().map(|kept| kept.len()).collect();
    let kept: Vec<Slice> = kept.map(Slice::from).collect();
    Value::of(aligned(x).slice(for_axes(&kept, Slice::full()))).reshape(shape)
}

/// Enlarges the spatial axes by whole factors.
pub(crate) fn up_sample(up_sampling: &UpSampling, x: Value, output: &[usize]) -> Value {
    let UpSampling { factors, layout, is_bilinear } = up_sampling;
    if *is_bilinear {
        return interpolate_planes(*layout, x, split(output, *layout).1);
    }
    let batch = x.batch();
    let (channels, cells) = split(x.shape(), *layout);
    let [depth, height, width] = three(cells, 1);
    let [deeper, higher, wider] = three(factors, 1);
    let rows = x.rows();
    let repeated = match layout {
        Layout::ChannelsLast => rows
            .reshape([batch, depth, 1, height, 1, width, 1, channels])
            .expand([batch, depth, deeper, height, higher, width, wider, channels]),
        Layout::ChannelsFirst => rows
            .reshape([batch, channels, depth, 1, height, 1, width, 1])
            .expand([batch, channels, depth, deeper, height, higher, width, wider]),
    };
    Value::of(repeated).reshape(output.to_vec())
}

/// Linear between the cells' centres, and flat beyond the outermost.
fn interpolate_planes(layout: Layout, x: Value, cells: &[usize]) -> Value {
    let [height, width] = *cells else { panic!("bilinear up-sampling has two spatial axes") };
    let x = volume(x, layout);
    let [batch, channels, _, old_height, old_width] = x.dims();
    let planes = x.reshape([batch, channels, old_height, old_width]);
    let options = InterpolateOptions::new(InterpolateMode::Bilinear)
        .with_align_corners(false)
        .with_output_size([height, width]);
    let planes = interpolate(planes, options);
    value(planes.reshape([batch, channels, 1, height, width]), layout, 2)
}

/// Softmax over an axis.
pub(crate) fn softmax_over(axis: usize, x: Value) -> Value {
    let shape = x.shape().to_vec();
    let after: usize = shape[axis + 1..].iter().product();
    x.map(|rows| {
        let [batch, elements] = rows.dims();
        let outer = batch * elements / (shape[axis] * after);
        let x: Tensor<3> = rows.reshape([outer, shape[axis], after]);
        activation::softmax(x, 1).reshape([batch, elements])
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, numbers};
    use super::*;
    use crate::layer::Operation;

    /// The input's elements at these places.
    fn picks(operation: Operation, input: &[usize], output: &[usize], places: &[usize]) {
        let x = numbers(input.iter().product(), 0);
        let case = Case { operation, inputs: &[input], weights: &[], output };
        case.gives(&places.iter().map(|&place| x[place]).collect::<Vec<_>>());
        case.has_true_gradients();
    }

    #[test]
    fn flatten_moves_channels_last() {
        let layout = Layout::ChannelsFirst;
        picks(Operation::Flatten { layout }, &[2, 1, 3], &[6], &[0, 3, 1, 4, 2, 5]);
        let layout = Layout::ChannelsLast;
        picks(Operation::Flatten { layout }, &[2, 1, 2], &[4], &[0, 1, 2, 3]);
    }

    #[test]
    fn permute_names_the_inputs_axes() {
        let axes = vec![2, 0, 1];
        picks(Operation::Permute { axes }, &[1, 2, 3], &[3, 1, 2], &[0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn repeat_stacks_the_vector() {
        picks(Operation::Repeat { count: 3 }, &[2], &[3, 2], &[0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn crop_keeps_the_middle() {
        let cells = vec![(1, 0), (0, 2), (0, 0)];
        picks(Operation::Crop { cells }, &[3, 3, 1], &[2, 1, 1], &[3, 6]);
    }

    #[test]
    fn pad_puts_zeros_around() {
        let x = numbers(2, 0);
        let case = Case {
            operation: Operation::Pad { cells: vec![(0, 1), (2, 1)] },
            inputs: &[&[1, 2]],
            weights: &[],
            output: &[2, 5],
        };
        case.gives(&[0.0, 0.0, x[0], x[1], 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        case.has_true_gradients();
    }

    #[test]
    fn up_sampling_repeats_cells() {
        let up_sampling = |factors: &[usize], layout| {
            let factors = factors.to_vec();
            Operation::UpSampling(UpSampling { factors, layout, is_bilinear: false })
        };
        let last = up_sampling(&[2], Layout::ChannelsLast);
        picks(last, &[2, 2], &[4, 2], &[0, 1, 0, 1, 2, 3, 2, 3]);
        let first = up_sampling(&[1, 2, 2], Layout::ChannelsFirst);
        let places = [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3];
        picks(first, &[2, 1, 1, 2], &[2, 1, 2, 4], &places);
    }

    /// By Keras.
    #[test]
    fn bilinear_up_sampling_is_flat_beyond_the_outermost_centres() {
        let factors = vec![2, 3];
        let up_sampling = UpSampling { factors, layout: Layout::ChannelsLast, is_bilinear: true };
        let case = Case {
            operation: Operation::UpSampling(up_sampling),
            inputs: &[&[2, 2, 1]],
            weights: &[],
            output: &[4, 6, 1],
        };
        case.gives(&[
            -1.05, -1.05, -0.926_667, -0.803_333, -0.68, -0.68, -0.865, -0.865, -0.741_667,
            -0.618_333, -0.495, -0.495, -0.495, -0.495, -0.371_667, -0.248_333, -0.125, -0.125,
            -0.31, -0.31, -0.186_667, -0.063_333, 0.06, 0.06,
        ]);
        case.has_true_gradients();
    }

    /// By Keras.
    #[test]
    fn softmax_over_the_first_axis() {
        let case = Case {
            operation: Operation::SoftmaxOver { axis: 0 },
            inputs: &[&[3, 2]],
            weights: &[],
            output: &[3, 2],
        };
        case.gives(&[0.133_531, 0.133_531, 0.279_873, 0.279_873, 0.586_596, 0.586_596]);
        case.has_true_gradients();
    }
}
