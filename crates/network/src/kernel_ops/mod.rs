//! Convolutions, dense layers, pools and normalisation as operations of Burn's CPU back end, by the
//! kernels of `arrowhop-kernels`, with gradients. Everything is rows of elements, channels last, as
//! values are.
//!
//! They join Burn by its own way for that: a trait over back ends whose implementation for Burn's
//! `Dispatch` is generated (`backend_extension`), so that networks stay Burn modules. On a GPU the same
//! functions are Burn's operations.

mod autodiff;
mod flex;
mod tensors;

use arrowhop_kernels::{Arithmetic, Convolution, Isa, Pooling};
use arrowhop_types::Precision;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

/// The name of the instructions that compute so exactly in this process. Between them bits differ.
#[must_use]
pub fn isa(precision: Precision) -> &'static str {
    let Arithmetic { isa, precision } = arithmetic(precision);
    isa.of(precision).name()
}

/// How products are computed in this process.
fn arithmetic(precision: Precision) -> Arithmetic {
    let precision = match precision {
        Precision::F32 => arrowhop_kernels::Precision::Single,
        Precision::Bf16 => arrowhop_kernels::Precision::Half,
    };
    Arithmetic { isa: Isa::current(), precision }
}

/// Makes the kernels use the instructions of this name from here on: before anything is computed.
///
/// # Errors
/// When there are no such instructions here, or others are in use already.
pub fn choose_isa(name: &str) -> Result<(), String> {
    let found = Isa::ALL.into_iter().find(|isa| isa.name() == name);
    match found {
        Some(isa) if isa.choose() => Ok(()),
        Some(_) if Isa::current() != Isa::best() => {
            Err(format!("{} is in use already", Isa::current().name()))
        }
        _ => {
            let here = Isa::ALL.into_iter().filter(|isa| isa.is_here()).map(Isa::name);
            let here: Vec<_> = here.collect();
            Err(format!("this CPU has {}", here.join(", ")))
        }
    }
}

/// Images (batch, elements) ∗ kernel + bias, and nothing below 0 where that is asked for.
pub(crate) fn convolve(
    images: Tensor<2>,
    kernel: Tensor<1>,
    bias: Option<Tensor<1>>,
    convolution: Convolution,
    relu: bool,
    precision: Precision,
) -> Tensor<2> {
    let device = images.device();
    if !is_cpu(&device) {
        return finished(tensors::convolve(images, kernel, bias, convolution), relu);
    }
    Tensor::from_dispatch(Dispatch::convolve(
        images.into_dispatch(),
        kernel.into_dispatch(),
        bias_of(bias, convolution.outputs, &device).into_dispatch(),
        convolution,
        relu,
        precision,
    ))
}

/// x (rows, inputs) · kernel (inputs, outputs) + bias, finished as [`convolve`] does.
pub(crate) fn dense(
    x: Tensor<2>,
    kernel: Tensor<1>,
    bias: Option<Tensor<1>>,
    relu: bool,
    precision: Precision,
) -> Tensor<2> {
    let (device, inputs) = (x.device(), x.dims()[1]);
    let outputs = kernel.dims()[0] / inputs;
    if !is_cpu(&device) {
        return finished(linear(x, kernel.reshape([inputs, outputs]), bias), relu);
    }
    Tensor::from_dispatch(Dispatch::dense(
        x.into_dispatch(),
        kernel.into_dispatch(),
        bias_of(bias, outputs, &device).into_dispatch(),
        relu,
        precision,
    ))
}

/// The sums of the kernel's rows (inputs, outputs) at these places (rows, count), plus the bias,
/// finished as [`convolve`] does.
pub(crate) fn sum_rows(
    places: Tensor<2>,
    kernel: Tensor<1>,
    bias: Option<Tensor<1>>,
    outputs: usize,
    relu: bool,
) -> Tensor<2> {
    let device = places.device();
    if !is_cpu(&device) {
        return finished(tensors::sum_rows(places, kernel, bias, outputs), relu);
    }
    Tensor::from_dispatch(Dispatch::sum_rows(
        places.into_dispatch(),
        kernel.into_dispatch(),
        bias_of(bias, outputs, &device).into_dispatch(),
        relu,
    ))
}

fn finished(made: Tensor<2>, relu: bool) -> Tensor<2> {
    if relu { burn::tensor::activation::relu(made) } else { made }
}

/// Whether our own kernels serve the device.
#[must_use]
pub fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// The bias, or zeros that nobody learns.
fn bias_of(bias: Option<Tensor<1>>, outputs: usize, device: &Device) -> Tensor<1> {
    bias.unwrap_or_else(|| Tensor::zeros([outputs], device))
}

/// The largest of each window of images (batch, elements).
pub(crate) fn max_pool(images: Tensor<2>, pooling: Pooling) -> Tensor<2> {
    if !is_cpu(&images.device()) {
        return tensors::max_pool(images, pooling);
    }
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
    if !is_cpu(&x.device()) {
        return tensors::normalize(x, gamma, beta, epsilon);
    }
    let of_x = x.into_dispatch();
    let (result, mean, variance) =
        Dispatch::normalize(of_x, gamma.into_dispatch(), beta.into_dispatch(), epsilon);
    (Tensor::from_dispatch(result), [mean, variance].map(Tensor::from_dispatch))
}

/// What this crate adds to a back end. The gradients are those by one operand, given the gradient of
/// the result.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait KernelOps: Backend {
    /// Images ∗ kernel + bias; with `relu` nothing below 0.
    fn convolve(
        images: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        convolution: Convolution,
        relu: bool,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// By the images.
    fn convolve_images_gradient(
        of_result: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        convolution: Convolution,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// By the kernel.
    fn convolve_kernel_gradient(
        of_result: FloatTensor<Self>,
        images: FloatTensor<Self>,
        convolution: Convolution,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// x · kernel + bias; with `relu` nothing below 0.
    fn dense(
        x: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// By x.
    fn dense_x_gradient(
        of_result: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// By the kernel.
    fn dense_kernel_gradient(
        of_result: FloatTensor<Self>,
        x: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// The sums of the kernel's rows at these places, plus the bias; with `relu` nothing below 0.
    fn sum_rows(
        places: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// By the kernel, which has so many elements.
    fn sum_rows_gradient(
        of_result: FloatTensor<Self>,
        places: FloatTensor<Self>,
        elements: usize,
    ) -> FloatTensor<Self>;

    /// By what was there before nothing was left below 0.
    fn relu_gradient(of_result: FloatTensor<Self>, result: FloatTensor<Self>) -> FloatTensor<Self>;

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
