//! The operations on other devices than the CPU, in Burn's own: it has kernels for each of them there.

use arrowhop_kernels::{Axis, Convolution, Pooling};
use burn::tensor::module::{conv2d, linear, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions, PadMode};
use burn::tensor::{Int, Tensor};

pub(super) fn convolve(
    images: Tensor<2>,
    kernel: Tensor<1>,
    bias: Option<Tensor<1>>,
    convolution: Convolution,
) -> Tensor<2> {
    let Convolution { axes, inputs, outputs } = convolution;
    let [height, width] = axes;
    let batch = images.dims()[0];
    if axes.iter().all(|axis| (axis.size, axis.stride, axis.padding) == (1, 1, 0)) {
        let cells = images.reshape([batch * height.input * width.input, inputs]);
        return linear(cells, kernel.reshape([inputs, outputs]), bias)
            .reshape([batch, height.output * width.output * outputs]);
    }
    let kernel = kernel.reshape([height.size, width.size, inputs, outputs]);
    let (x, padding) = framed(images, axes, inputs);
    let (strides, dilations) = (axes.map(|axis| axis.stride), axes.map(|axis| axis.dilation));
    let options = ConvOptions::new(strides, padding, dilations, 1);
    rows(conv2d(x, kernel.permute([3, 2, 0, 1]), bias, options))
}

pub(super) fn max_pool(images: Tensor<2>, pooling: Pooling) -> Tensor<2> {
    let Pooling { axes, channels } = pooling;
    let (x, padding) = (planes(images, axes, channels), axes.map(around));
    let options = MaxPoolOptions::new(axes.map(|axis| axis.size))
        .with_stride(axes.map(|axis| axis.stride))
        .with_padding_pairs(padding);
    let [height, width] = axes.map(|axis| axis.output);
    // Where a stride leaves cells over, padding rounds up.
    let batch = x.dims()[0];
    rows(max_pool2d(x, options).slice([0..batch, 0..channels, 0..height, 0..width]))
}

/// The kernel's rows at the places, gathered and summed.
pub(super) fn sum_rows(
    places: Tensor<2>,
    kernel: Tensor<1>,
    bias: Option<Tensor<1>>,
    outputs: usize,
) -> Tensor<2> {
    let [batch, count] = places.dims();
    let inputs = kernel.dims()[0] / outputs;
    let places: Tensor<1, Int> = places.int().reshape([batch * count]);
    let gathered = kernel.reshape([inputs, outputs]).select(0, places);
    let sums = gathered.reshape([batch, count, outputs]).sum_dim(1).reshape([batch, outputs]);
    match bias {
        Some(bias) => sums + bias.unsqueeze(),
        None => sums,
    }
}

/// Rows normalised over the batch, with mean and population variance.
pub(super) fn normalize(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> (Tensor<2>, [Tensor<1>; 2]) {
    let channels = x.dims()[1];
    let mean = x.clone().mean_dim(0);
    let centered = x - mean.clone();
    let variance = (centered.clone() * centered.clone()).mean_dim(0);
    let scale = gamma.unsqueeze() / (variance.clone() + epsilon).sqrt();
    let statistics = [mean, variance].map(|row| row.detach().reshape([channels]));
    (centered * scale + beta.unsqueeze(), statistics)
}

/// Images (batch, channels, height, width), and the padding that is left to the operation: what is
/// uneven is around them already.
fn framed(images: Tensor<2>, axes: [Axis; 2], channels: usize) -> (Tensor<4>, [usize; 2]) {
    let (x, padding) = (planes(images, axes, channels), axes.map(around));
    if padding.iter().all(|(before, after)| before == after) {
        return (x, padding.map(|(before, _)| before));
    }
    (x.pad(padding, PadMode::Constant(0.0)), [0, 0])
}

/// A view of channels-last images as (batch, channels, height, width).
fn planes(images: Tensor<2>, axes: [Axis; 2], channels: usize) -> Tensor<4> {
    let [height, width] = axes.map(|axis| axis.input);
    let batch = images.dims()[0];
    images.reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
}

/// (batch, channels, height, width) as channels-last rows.
fn rows(planes: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = planes.dims();
    planes.permute([0, 2, 3, 1]).reshape([batch, height * width * channels])
}

/// Cells before and behind an axis that its windows see.
fn around(axis: Axis) -> (usize, usize) {
    let seen = (axis.output - 1) * axis.stride + (axis.size - 1) * axis.dilation + 1;
    (axis.padding, seen.saturating_sub(axis.padding + axis.input))
}
