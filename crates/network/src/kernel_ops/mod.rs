//! Convolutions, dense layers, pools and normalisation as operations of Burn's CPU back end, by the
//! kernels of `arrowhop-kernels`, with gradients. Everything is rows of elements, channels last, as
//! values are.
//!
//! They join Burn by its own way for that: a trait over back ends whose implementation for Burn's
//! `Dispatch` is generated (`backend_extension`), so that networks stay Burn modules.

mod autodiff;
mod flex;

use arrowhop_kernels::{Convolution, Pooling};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Tensor};

/// The name of the instructions that kernels use on this CPU. Between them bits differ.
#[must_use]
pub fn isa() -> &'static str {
    arrowhop_kernels::Isa::best().name()
}

/// Images (batch, elements) ∗ kernel + bias.
pub(crate) fn convolve(
    images: Tensor<2>,
    kernel: Tensor<1>,
    bias: Option<Tensor<1>>,
    convolution: Convolution,
) -> Tensor<2> {
    let device = images.device();
    Tensor::from_dispatch(Dispatch::convolve(
        images.into_dispatch(),
        kernel.into_dispatch(),
        bias_of(bias, convolution.outputs, &device).into_dispatch(),
        convolution,
    ))
}

/// x (rows, inputs) · kernel (inputs, outputs) + bias.
pub(crate) fn dense(x: Tensor<2>, kernel: Tensor<1>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let (device, outputs) = (x.device(), kernel.dims()[0] / x.dims()[1]);
    Tensor::from_dispatch(Dispatch::dense(
        x.into_dispatch(),
        kernel.into_dispatch(),
        bias_of(bias, outputs, &device).into_dispatch(),
    ))
}

/// The sums of the kernel's rows (inputs, outputs) at these places (rows, count), plus the bias.
pub(crate) fn sum_rows(
    places: Tensor<2>,
    kernel: Tensor<1>,
    bias: Option<Tensor<1>>,
    outputs: usize,
) -> Tensor<2> {
    let device = places.device();
    Tensor::from_dispatch(Dispatch::sum_rows(
        places.into_dispatch(),
        kernel.into_dispatch(),
        bias_of(bias, outputs, &device).into_dispatch(),
    ))
}

/// The bias, or zeros that nobody learns.
fn bias_of(bias: Option<Tensor<1>>, outputs: usize, device: &Device) -> Tensor<1> {
    bias.unwrap_or_else(|| Tensor::zeros([outputs], device))
}

/// The largest of each window of images (batch, elements).
pub(crate) fn max_pool(images: Tensor<2>, pooling: Pooling) -> Tensor<2> {
    let (result, _) = Dispatch::max_pool(images.into_dispatch(), pooling);
    Tensor::from_dispatch(result)
}

/// x (rows, channels), normalised over the batch, with its mean and population variance by channel.
pub(crate) fn normalize(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> (Tensor<2>, [Tensor<1>; 2]) {
    let of_x = x.into_dispatch();
    let (result, mean, variance) =
        Dispatch::normalize(of_x, gamma.into_dispatch(), beta.into_dispatch(), epsilon);
    (Tensor::from_dispatch(result), [mean, variance].map(Tensor::from_dispatch))
}

/// What this crate adds to a back end. The gradients are those by one operand, given the gradient of
/// the result.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait KernelOps: Backend {
    /// Images ∗ kernel + bias.
    fn convolve(
        images: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// By the images.
    fn convolve_images_gradient(
        of_result: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// By the kernel.
    fn convolve_kernel_gradient(
        of_result: FloatTensor<Self>,
        images: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// x · kernel + bias.
    fn dense(
        x: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// By x.
    fn dense_x_gradient(
        of_result: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// By the kernel.
    fn dense_kernel_gradient(
        of_result: FloatTensor<Self>,
        x: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The sums of the kernel's rows at these places, plus the bias.
    fn sum_rows(
        places: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// By the kernel, which has so many elements.
    fn sum_rows_gradient(
        of_result: FloatTensor<Self>,
        places: FloatTensor<Self>,
        elements: usize,
    ) -> FloatTensor<Self>;

    /// Of all by the bias: the sums over all rows of so many channels.
    fn bias_gradient(of_result: FloatTensor<Self>, channels: usize) -> FloatTensor<Self>;

    /// The largest of each window, and its place in its image.
    fn max_pool(
        images: FloatTensor<Self>,
        pooling: Pooling,
    ) -> (FloatTensor<Self>, IntTensor<Self>);

    /// By the images.
    fn max_pool_gradient(
        of_result: FloatTensor<Self>,
        places: IntTensor<Self>,
        pooling: Pooling,
    ) -> FloatTensor<Self>;

    /// x normalised, its mean and its variance.
    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// By x, by gamma and by beta, given x, its mean and variance, and gamma.
    fn normalize_gradient(
        of_result: FloatTensor<Self>,
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}
