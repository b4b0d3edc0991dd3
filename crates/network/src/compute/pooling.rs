//! Pools: the largest or the mean of each window, or of everything.
//!
//! Both are separable (the mean of real cells, too, since their number is a product over the axes),
//! so three axes are pooled as two and then one.

use arrowhop_kernels::Pooling;
use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

use super::volume::{changes_nothing, planar, split, value, volume, window_axes};
use crate::kernel_ops;
use crate::layer::{Layout, Pool};
use crate::value::Value;
use crate::window::{Axis, Window};

/// Pools over windows.
pub(crate) fn pool(kind: Pool, window: &Window, layout: Layout, x: Value) -> Value {
    if let (Pool::Max, Layout::ChannelsLast, Some((axes, channels))) =
        (kind, layout, planar(&window.axes, x.shape()))
    {
        let shape = [window.output().as_slice(), &[channels]].concat();
        return Value::of_rows(kernel_ops::max_pool(x.rows(), Pooling { axes, channels }), shape);
    }
    let [along_depth, along_height, along_width] = window_axes(window);
    let x = volume(x, layout);
    let [batch, channels, depth, height, width] = x.dims();
    let planes = x.reshape([batch, channels * depth, height, width]);
    let planes = pool_planes(kind, [along_height, along_width], planes);
    let [.., height, width] = planes.dims();
    let columns = planes.reshape([batch, channels, depth, height * width]);
    let one = Axis { size: 1, stride: 1, dilation: 1, padding: (0, 0), output: height * width };
    let columns = pool_planes(kind, [along_depth, one], columns);
    let [_, _, depth, _] = columns.dims();
    value(columns.reshape([batch, channels, depth, height, width]), layout, window.axes.len())
}

/// Pools over the last two axes.
fn pool_planes(kind: Pool, axes: [Axis; 2], x: Tensor<4>) -> Tensor<4> {
    if axes.iter().all(changes_nothing) {
        return x;
    }
    let (sizes, strides) = (axes.map(|axis| axis.size), axes.map(|axis| axis.stride));
    let padding = axes.map(|axis| axis.padding);
    match kind {
        Pool::Max => {
            let options = MaxPoolOptions::new(sizes).with_stride(strides);
            max_pool2d(x, options.with_padding_pairs(padding))
        }
        Pool::Average => {
            let options = AvgPoolOptions::new(sizes).with_stride(strides);
            let options = options.with_padding_pairs(padding).with_count_include_pad(false);
            avg_pool2d(x, options)
        }
    }
}

/// Pools over all axes but the channels. The average over the steps of a masked sequence is that of
/// the steps that count; of none it is 0.
pub(crate) fn pool_globally(kind: Pool, layout: Layout, x: Value) -> Value {
    let (batch, mask) = (x.batch(), x.mask.clone());
    let (channels, cells) = split(x.shape(), layout);
    let (is_sequence, cells) = (cells.len() == 1, cells.iter().product::<usize>());
    let (x, cell_axis) = match layout {
        Layout::ChannelsLast => (x.rows().reshape([batch, cells, channels]), 1),
        Layout::ChannelsFirst => (x.rows().reshape([batch, channels, cells]), 2),
    };
    let pooled = match (kind, mask.filter(|_| is_sequence)) {
        (Pool::Max, _) => x.max_dim(cell_axis),
        (Pool::Average, None) => x.mean_dim(cell_axis),
        (Pool::Average, Some(mask)) => {
            let mask: Tensor<3> = mask.unsqueeze_dim(3 - cell_axis);
            let counted = mask.clone().sum_dim(cell_axis).clamp_min(1.0);
            (x * mask).sum_dim(cell_axis) / counted
        }
    };
    Value::of_rows(pooled.reshape([batch, channels]), vec![channels])
}

/// Numbers without a source are Keras's.
#[cfg(test)]
mod tests {
    use super::super::check::{Case, assert_close, floats, numbers};
    use super::*;
    use crate::layer::Operation;
    use crate::window::Padding;
    use burn::tensor::{Device, TensorData};

    /// Axes with `same` padding: their sizes and strides, on inputs of these lengths.
    fn same(axes: &[[usize; 3]]) -> Window {
        let place = |[size, stride, input]: &[usize; 3]| {
            Axis::place(*size, *stride, 1, Padding::Same, *input).unwrap()
        };
        Window { axes: axes.iter().map(place).collect() }
    }

    fn case<'a>(
        kind: Pool,
        window: Window,
        layout: Layout,
        inputs: &'a [&'a [usize]],
        output: &'a [usize],
    ) -> Case<'a> {
        let operation = Operation::Pooling { kind, window, layout };
        Case { operation, inputs, weights: &[], output }
    }

    #[test]
    fn planes_with_uneven_padding() {
        let window = same(&[[3, 2, 4], [3, 2, 4]]);
        let of = |kind| case(kind, window.clone(), Layout::ChannelsLast, &[&[4, 4, 1]], &[2, 2, 1]);
        of(Pool::Max).gives(&[0.8, 0.91, 0.54, 0.91]);
        of(Pool::Max).has_true_gradients();
        of(Pool::Average).gives(&[-0.137_778, -0.051_667, -0.145, 0.41]);
        of(Pool::Average).has_true_gradients();
    }

    #[test]
    fn three_axes_are_pooled_as_two_and_one() {
        let window = same(&[[2, 2, 3], [3, 1, 2], [2, 2, 3]]);
        let of = |kind| {
            case(kind, window.clone(), Layout::ChannelsLast, &[&[3, 2, 3, 1]], &[2, 2, 2, 1])
        };
        of(Pool::Max).gives(&[0.54, 0.91, 0.54, 0.91, 0.65, 1.02, 0.65, 1.02]);
        of(Pool::Max).has_true_gradients();
        of(Pool::Average).gives(&[-0.255, 0.3, -0.255, 0.3, -0.09, 0.465, -0.09, 0.465]);
        of(Pool::Average).has_true_gradients();
    }

    #[test]
    fn one_axis_and_channels_first() {
        let window = same(&[[3, 2, 4]]);
        let line = case(Pool::Average, window, Layout::ChannelsLast, &[&[4, 2]], &[2, 2]);
        line.gives(&[-0.31, 0.06, -0.255, 0.115]);
        let axis = |input| Axis::place(2, 2, 1, Padding::Valid, input).unwrap();
        let window = Window { axes: vec![axis(2), axis(5)] };
        let planes = case(Pool::Max, window, Layout::ChannelsFirst, &[&[2, 2, 5]], &[2, 1, 2]);
        planes.gives(&[0.8, 0.06, 0.91, 1.02]);
        planes.has_true_gradients();
    }

    #[test]
    fn global_pools_leave_the_channels() {
        let operation = Operation::GlobalPooling {
            kind: Pool::Max,
            layout: Layout::ChannelsFirst,
            keeps_axes: true,
        };
        let inputs: &[&[usize]] = &[&[2, 2, 3]];
        let largest = Case { operation, inputs, weights: &[], output: &[2, 1, 1] };
        largest.gives(&[0.8, 0.91]);
        largest.has_true_gradients();
        let operation = Operation::GlobalPooling {
            kind: Pool::Average,
            layout: Layout::ChannelsLast,
            keeps_axes: false,
        };
        let mean = Case { operation, inputs: &[&[2, 2, 2]], weights: &[], output: &[2] };
        let x = numbers(8, 0);
        mean.gives(&[(x[0] + x[2] + x[4] + x[6]) / 4.0, (x[1] + x[3] + x[5] + x[7]) / 4.0]);
        mean.has_true_gradients();
    }

    #[test]
    fn the_average_of_a_sequence_leaves_out_hidden_steps() {
        let tensor = |data: Vec<f32>, shape| {
            Tensor::<2>::from_data(TensorData::new(data, shape), &Device::flex())
        };
        let mask = tensor(vec![1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [2, 4]);
        let x = Value::of_rows(tensor(numbers(24, 0), [2, 12]), vec![4, 3]).with_mask(Some(mask));
        let pooled = pool_globally(Pool::Average, Layout::ChannelsLast, x);
        assert_close(&floats(pooled.rows()), &[-0.995, -0.625, -0.255, 0.0, 0.0, 0.0]);
    }
}
