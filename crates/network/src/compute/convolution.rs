//! Convolutions. One path serves one, two and three axes: what has fewer runs as a volume that is one
//! cell deep, which Burn's CPU kernels do inside, too.
//!
//! Kernels keep Keras's layout (k…, in, out) and are turned at use.

use burn::tensor::module::{conv_transpose3d, conv3d, linear};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, PadMode};
use burn::tensor::{Slice, Tensor};

use super::Weights;
use super::volume::{planar, three, value, volume, window_axes};
use crate::activation::Activation;
use crate::kernel_ops;
use crate::layer::{Convolution, ConvolutionKind, Layout};
use crate::value::Value;
use crate::window::Axis;

/// Applies a convolution, then the activation.
pub(crate) fn convolve(
    convolution: &Convolution,
    x: Value,
    activation: Activation,
    weights: &Weights<'_>,
) -> Value {
    let Convolution { kind, window, layout, has_bias } = convolution;
    let bias = has_bias.then(|| weights.flat(weights.len() - 1));
    if let (ConvolutionKind::Plain { groups: 1 }, Layout::ChannelsLast) = (kind, layout)
        && let Some((axes, inputs)) = planar(&window.axes, x.shape())
        && let &[.., outputs] = weights.shape(0)
    {
        let shape = [window.output().as_slice(), &[outputs]].concat();
        let convolution = arrowhop_kernels::Convolution { axes, inputs, outputs };
        let relu = activation == Activation::Relu;
        let (kernel, precision) = (weights.flat(0), weights.precision());
        let rows = kernel_ops::convolve(x.rows(), kernel, bias, convolution, relu, precision);
        let made = Value::of_rows(rows, shape);
        return if relu { made } else { activation.forward(made) };
    }
    let x = volume(x, *layout);
    let kernel = kernel(weights, 0);
    let axes = window_axes(window);
    let made = match *kind {
        ConvolutionKind::Plain { groups: 1 } if window.cells() == 1 => {
            mix_channels(seen_cells(x, &axes), kernel, bias)
        }
        ConvolutionKind::Plain { groups } => slide(x, kernel, bias, &axes, groups),
        ConvolutionKind::Depthwise => slide_by_channel(x, kernel, bias, &axes),
        ConvolutionKind::Separable => {
            let x = slide_by_channel(x, kernel, None, &axes);
            mix_channels(x, self::kernel(weights, 1), bias)
        }
        ConvolutionKind::Transposed => spread(x, kernel, bias, &axes),
    };
    activation.forward(value(made, *layout, window.axes.len()))
}

/// A kernel as (depth, height, width, its last two axes).
fn kernel(weights: &Weights<'_>, i: usize) -> Tensor<5> {
    let [cells @ .., second_last, last] = weights.shape(i) else {
        panic!("a kernel has two axes of channels")
    };
    let [depth, height, width] = three(cells, 1);
    weights.reshaped(i, [depth, height, width, *second_last, *last])
}

/// Slides a kernel (…, in / groups, out) over the volume and what pads it.
fn slide(
    x: Tensor<5>,
    kernel: Tensor<5>,
    bias: Option<Tensor<1>>,
    axes: &[Axis; 3],
    groups: usize,
) -> Tensor<5> {
    let padding = axes.map(|axis| axis.padding);
    let is_even = padding.iter().all(|(before, after)| before == after);
    let (x, padding) = if is_even {
        (x, padding.map(|(before, _)| before))
    } else {
        (x.pad(padding, PadMode::Constant(0.0)), [0; 3])
    };
    let (strides, dilations) = (axes.map(|axis| axis.stride), axes.map(|axis| axis.dilation));
    let options = ConvOptions::new(strides, padding, dilations, groups);
    conv3d(x, kernel.permute([4, 3, 0, 1, 2]), bias, options)
}

/// Slides a kernel (…, in, multiplier) over each channel for itself. Channels are repeated first: for
/// as many groups as channels go in and come out, Burn has a kernel of its own.
fn slide_by_channel(
    x: Tensor<5>,
    kernel: Tensor<5>,
    bias: Option<Tensor<1>>,
    axes: &[Axis; 3],
) -> Tensor<5> {
    let [batch, _, depth, height, width] = x.dims();
    let [k_depth, k_height, k_width, channels, multiplier] = kernel.dims();
    let groups = channels * multiplier;
    let kernel = kernel.reshape([k_depth, k_height, k_width, 1, groups]);
    if multiplier == 1 {
        return slide(x, kernel, bias, axes, groups);
    }
    let x: Tensor<6> = x.unsqueeze_dim(2);
    let repeated = x.expand([batch, channels, multiplier, depth, height, width]);
    slide(repeated.reshape([batch, groups, depth, height, width]), kernel, bias, axes, groups)
}

/// The cells that a window of one cell sees.
fn seen_cells(x: Tensor<5>, axes: &[Axis; 3]) -> Tensor<5> {
    if axes.iter().all(|axis| axis.stride == 1) {
        return x;
    }
    let [depth, height, width] = axes.map(|axis| Slice::new(0, None, axis.stride.cast_signed()));
    x.slice([Slice::full(), Slice::full(), depth, height, width])
}

/// The convolution with a kernel of one cell: a matrix product over the channels.
fn mix_channels(x: Tensor<5>, kernel: Tensor<5>, bias: Option<Tensor<1>>) -> Tensor<5> {
    let [.., inputs, outputs] = kernel.dims();
    let [batch, _, depth, height, width] = x.dims();
    let cells = x.permute([0, 2, 3, 4, 1]).reshape([batch * depth * height * width, inputs]);
    let mixed = linear(cells, kernel.reshape([inputs, outputs]), bias);
    mixed.reshape([batch, depth, height, width, outputs]).permute([0, 4, 1, 2, 3])
}

/// The transposed convolution with a kernel (…, out, in): the full result, fitted to the window.
fn spread(x: Tensor<5>, kernel: Tensor<5>, bias: Option<Tensor<1>>, axes: &[Axis; 3]) -> Tensor<5> {
    let (strides, dilations) = (axes.map(|axis| axis.stride), axes.map(|axis| axis.dilation));
    let options = ConvTransposeOptions::new(strides, [0; 3], [0; 3], dilations, 1);
    let full = conv_transpose3d(x, kernel.permute([4, 3, 0, 1, 2]), None, options);
    let fitted = axes.iter().zip(2..).fold(full, |x, (axis, dim)| {
        let (before, _) = axis.padding;
        let length = axis.output.min(x.dims()[dim] - before);
        if length == x.dims()[dim] { x } else { x.narrow(dim, before, length) }
    });
    let [_, channels, cells @ ..] = fitted.dims();
    let missing = [0, 1, 2].map(|i| (0, axes[i].output - cells[i]));
    let whole =
        if missing == [(0, 0); 3] { fitted } else { fitted.pad(missing, PadMode::Constant(0.0)) };
    match bias {
        Some(bias) => whole + bias.reshape([1, channels, 1, 1, 1]),
        None => whole,
    }
}

/// Numbers without a source are Keras's.
#[cfg(test)]
mod tests {
    use super::super::check::Case;
    use super::*;
    use crate::layer::Operation;
    use crate::window::{Padding, Window};

    const PLAIN: ConvolutionKind = ConvolutionKind::Plain { groups: 1 };

    fn operation(kind: ConvolutionKind, axes: Vec<Option<Axis>>, has_bias: bool) -> Operation {
        let axes = axes.into_iter().map(Option::unwrap).collect();
        let layout = Layout::ChannelsLast;
        Operation::Convolution(Convolution { kind, window: Window { axes }, layout, has_bias })
    }

    /// An axis of a window: its size, stride and dilation, on an input of this length.
    fn axis(window: [usize; 3], padding: Padding, input: usize) -> Option<Axis> {
        Axis::place(window[0], window[1], window[2], padding, input)
    }

    fn transposed(window: [usize; 3], padding: Padding, input: usize) -> Option<Axis> {
        Axis::place_transposed(window[0], window[1], window[2], padding, None, input)
    }

    #[test]
    fn the_odd_cell_of_same_padding_comes_after() {
        let case = Case {
            operation: operation(PLAIN, vec![axis([3, 2, 1], Padding::Same, 4); 2], false),
            inputs: &[&[4, 4, 1]],
            weights: &[&[3, 3, 1, 1]],
            output: &[2, 2, 1],
        };
        case.has_true_gradients();
        let ones = |shape: [usize; 2]| Tensor::<2>::ones(shape, &burn::tensor::Device::flex());
        let Operation::Convolution(convolution) = case.operation else { unreachable!() };
        let kernel = burn::module::Param::from_tensor(ones([1, 9]).reshape([9]));
        let arrays = [kernel];
        let specs = [super::super::check::weight(vec![3, 3, 1, 1])];
        let x = Value::of_rows(ones([1, 16]), vec![4, 4, 1]);
        let made = convolve(&convolution, x, Activation::Linear, &Weights::new(&arrays, 0, &specs));
        assert_eq!(super::super::check::floats(made.rows()), [9.0, 6.0, 6.0, 4.0]);
    }

    #[test]
    fn causal_and_dilated_over_one_axis() {
        let case = Case {
            operation: operation(PLAIN, vec![axis([2, 1, 2], Padding::Causal, 4)], true),
            inputs: &[&[4, 2]],
            weights: &[&[2, 2, 2], &[2]],
            output: &[4, 2],
        };
        case.gives(&[1.0948, 0.8247, 0.7544, 1.0319, -0.1411, 1.4787, 1.0811, 0.6733]);
        case.has_true_gradients();
    }

    #[test]
    fn dilated_groups() {
        let axes = vec![axis([2, 1, 2], Padding::Valid, 4), axis([2, 1, 2], Padding::Valid, 3)];
        let case = Case {
            operation: operation(ConvolutionKind::Plain { groups: 2 }, axes, true),
            inputs: &[&[4, 3, 4]],
            weights: &[&[2, 2, 2, 4], &[4]],
            output: &[2, 1, 4],
        };
        case.gives(&[1.2924, 1.4332, -1.815, -1.9525, 1.178, 1.5058, -1.7453, 0.7307]);
        case.has_true_gradients();
    }

    #[test]
    fn channels_first() {
        let axes = [axis([2, 1, 1], Padding::Valid, 3), axis([2, 1, 1], Padding::Valid, 2)];
        let axes = axes.into_iter().map(Option::unwrap).collect();
        let case = Case {
            operation: Operation::Convolution(Convolution {
                kind: PLAIN,
                window: Window { axes },
                layout: Layout::ChannelsFirst,
                has_bias: true,
            }),
            inputs: &[&[2, 3, 2]],
            weights: &[&[2, 2, 2, 2], &[2]],
            output: &[2, 2, 1],
        };
        case.gives(&[0.1414, 1.5992, 1.4878, 0.4518]);
        case.has_true_gradients();
    }

    #[test]
    fn one_cell_with_strides_is_a_product_over_the_channels() {
        let axes = vec![axis([1, 2, 1], Padding::Same, 3), axis([1, 2, 1], Padding::Same, 4)];
        let case = Case {
            operation: operation(PLAIN, axes, true),
            inputs: &[&[3, 4, 2]],
            weights: &[&[1, 1, 2, 3], &[3]],
            output: &[2, 2, 3],
        };
        case.gives(&[
            1.1881, 0.918, -1.4621, -0.2031, 0.622, -0.6629, -0.4099, 0.578, -0.5441, 0.1823,
            0.704, -0.8843,
        ]);
        case.has_true_gradients();
    }

    #[test]
    fn three_axes_with_uneven_padding() {
        let same = |window, input| axis(window, Padding::Same, input);
        let case = Case {
            operation: operation(
                PLAIN,
                vec![same([2, 2, 1], 3), same([2, 1, 1], 2), same([1, 1, 1], 2)],
                true,
            ),
            inputs: &[&[3, 2, 2, 1]],
            weights: &[&[2, 2, 1, 1, 2], &[2]],
            output: &[2, 2, 2, 2],
        };
        case.gives(&[
            -0.0998, 0.2324, 0.026, 0.1251, 1.1147, 1.0222, 0.9038, 1.0851, 0.9698, 0.3262, 1.2658,
            0.1153, 0.5762, 1.146, 0.5873, 1.294,
        ]);
        case.has_true_gradients();
    }

    #[test]
    fn depthwise_keeps_a_channels_multiples_together() {
        let axes = vec![axis([2, 1, 1], Padding::Valid, 3), axis([2, 1, 1], Padding::Valid, 2)];
        let planes = Case {
            operation: operation(ConvolutionKind::Depthwise, axes, true),
            inputs: &[&[3, 2, 2]],
            weights: &[&[2, 2, 2, 2], &[4]],
            output: &[2, 1, 4],
        };
        planes.gives(&[0.8579, -0.3713, -2.2815, 0.5817, 1.0959, 1.825, 0.5438, -2.2096]);
        planes.has_true_gradients();
        let axes = vec![axis([2, 2, 1], Padding::Same, 3)];
        let line = Case {
            operation: operation(ConvolutionKind::Depthwise, axes, true),
            inputs: &[&[3, 2]],
            weights: &[&[2, 2, 2], &[4]],
            output: &[2, 4],
        };
        line.gives(&[0.7145, 0.5813, -1.3252, 0.2502, 0.5729, 1.102, -0.194, -1.216]);
        line.has_true_gradients();
    }

    #[test]
    fn separable_mixes_after_each_channel() {
        let axes = vec![axis([2, 1, 1], Padding::Same, 2); 2];
        let planes = Case {
            operation: operation(ConvolutionKind::Separable, axes, true),
            inputs: &[&[2, 2, 2]],
            weights: &[&[2, 2, 2, 1], &[1, 1, 2, 2], &[2]],
            output: &[2, 2, 2],
        };
        planes.gives(&[
            -0.737_519, -0.909_458, -0.834_999, -0.202_373, -2.125_153, -1.695_213, -0.851_112,
            -0.575_906,
        ]);
        planes.has_true_gradients();
        let line = Case {
            operation: operation(
                ConvolutionKind::Separable,
                vec![axis([2, 1, 1], Padding::Valid, 3)],
                true,
            ),
            inputs: &[&[3, 2]],
            weights: &[&[2, 2, 2], &[1, 4, 2], &[2]],
            output: &[2, 2],
        };
        line.gives(&[-0.152_535, 0.210_361, -0.765_847, -0.389_261]);
        line.has_true_gradients();
    }

    #[test]
    fn transposed_is_cut_where_it_is_too_long() {
        let same = |input| transposed([3, 2, 1], Padding::Same, input);
        let case = Case {
            operation: operation(ConvolutionKind::Transposed, vec![same(2), same(1)], true),
            inputs: &[&[2, 1, 2]],
            weights: &[&[3, 3, 2, 2], &[2]],
            output: &[4, 2, 2],
        };
        case.gives(&[
            0.2565, 0.7811, 1.3464, 0.4362, -0.1241, 0.4005, 0.9658, 0.0556, -0.49, 1.9385, 0.7574,
            -0.3378, 0.5197, 0.5781, 0.6772, 0.8622,
        ]);
        case.has_true_gradients();
        let axes = vec![transposed([4, 2, 1], Padding::Same, 3)];
        let both_ends = Case {
            operation: operation(ConvolutionKind::Transposed, axes, true),
            inputs: &[&[3, 2]],
            weights: &[&[4, 1, 2], &[1]],
            output: &[6, 1],
        };
        both_ends.gives(&[0.4111, 1.3611, -0.2307, 1.0651, 0.1023, 0.118]);
        both_ends.has_true_gradients();
    }

    #[test]
    fn transposed_has_only_the_bias_where_it_is_too_short() {
        let valid = |input| transposed([2, 3, 1], Padding::Valid, input);
        let case = Case {
            operation: operation(ConvolutionKind::Transposed, vec![valid(2), valid(1)], true),
            inputs: &[&[2, 1, 2]],
            weights: &[&[2, 2, 1, 2], &[1]],
            output: &[6, 3, 1],
        };
        case.gives(&[
            0.2565, 0.4111, 0.56, 1.3464, 0.0662, 0.56, 0.56, 0.56, 0.56, 0.5747, 0.2631, 0.56,
            0.7322, 0.5472, 0.56, 0.56, 0.56, 0.56,
        ]);
        case.has_true_gradients();
    }

    #[test]
    fn transposed_with_output_padding_and_dilation() {
        let padded = Axis::place_transposed(3, 2, 1, Padding::Same, Some(1), 2);
        let planes = Case {
            operation: operation(ConvolutionKind::Transposed, vec![padded; 2], true),
            inputs: &[&[2, 2, 1]],
            weights: &[&[3, 3, 1, 1], &[1]],
            output: &[4, 4, 1],
        };
        planes.gives(&[
            0.5285, 0.14, -0.2689, 0.288, 1.5785, 1.19, 1.4611, 0.968, 0.4037, -0.0995, -0.6961,
            0.2372, 0.8607, 0.746, 0.5731, 0.524,
        ]);
        let axes = vec![transposed([2, 1, 2], Padding::Valid, 3)];
        let line = Case {
            operation: operation(ConvolutionKind::Transposed, axes, true),
            inputs: &[&[3, 2]],
            weights: &[&[2, 2, 2], &[2]],
            output: &[5, 2],
        };
        line.gives(&[
            0.2565, 0.7811, 0.5747, 0.6331, 1.6793, -0.0087, 0.7322, 0.9172, 0.118, 1.3982,
        ]);
        line.has_true_gradients();
    }

    #[test]
    fn transposed_over_three_axes() {
        let same = |window, input| transposed(window, Padding::Same, input);
        let case = Case {
            operation: operation(
                ConvolutionKind::Transposed,
                vec![same([2, 1, 1], 2), same([2, 2, 1], 1), same([2, 1, 1], 2)],
                true,
            ),
            inputs: &[&[2, 1, 2, 2]],
            weights: &[&[2, 2, 2, 1, 2], &[1]],
            output: &[2, 2, 2, 1],
        };
        case.gives(&[0.2565, 0.4258, 1.3464, 0.2384, 0.5537, 0.1306, -0.5661, 1.1535]);
        case.has_true_gradients();
    }
}
