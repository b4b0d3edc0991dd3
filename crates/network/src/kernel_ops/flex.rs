//! The operations on Burn's CPU back end: slices in, slices out.

use std::cell::RefCell;

use arrowhop_kernels::{
    Convolution, Finish, Isa, Matrix, Moments, Pooling, Scratch, add_to_rows, column_sums,
    input_gradient, keep_positive, kernel_gradient, moments, multiply, multiply_transposed,
    normalize, normalize_gradient, pool_max, pool_max_gradient, slide, sum_rows,
};
use arrowhop_types::Precision;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::{BackendTypes, Flex, TensorMetadata};
use burn::tensor::TensorData;

use super::{KernelOps, arithmetic};

/// Rows up to which the gradient of a dense layer's input is computed turned around: then its kernel
/// is read as it lies. Beyond, packing it is little beside the product.
const FEW_ROWS: usize = 1024;

thread_local! {
    /// A thread trains one model at a time.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

type FlexTensor = <Flex as BackendTypes>::FloatTensorPrimitive;

impl KernelOps for Flex {
    fn convolve(
        images: FlexTensor,
        kernel: FlexTensor,
        bias: FlexTensor,
        convolution: Convolution,
        relu: bool,
        precision: Precision,
    ) -> FlexTensor {
        let [images, kernel, bias] = [images, kernel, bias].map(contiguous);
        let batch = images.shape()[0];
        let [height, width] = convolution.axes;
        let elements = height.output * width.output * convolution.outputs;
        filled([batch, elements], |result, scratch| {
            let finish = Finish { bias: Some(floats(&bias)), relu };
            let (images, kernel) = (floats(&images), floats(&kernel));
            slide(arithmetic(precision), &convolution, images, kernel, finish, result, scratch);
        })
    }

    fn convolve_images_gradient(
        of_result: FlexTensor,
        kernel: FlexTensor,
        convolution: Convolution,
        precision: Precision,
    ) -> FlexTensor {
        let [of_result, kernel] = [of_result, kernel].map(contiguous);
        let batch = of_result.shape()[0];
        let [height, width] = convolution.axes;
        let elements = height.input * width.input * convolution.inputs;
        filled([batch, elements], |gradient, scratch| {
            let (of_result, kernel) = (floats(&of_result), floats(&kernel));
            input_gradient(
                arithmetic(precision),
                &convolution,
                of_result,
                kernel,
                gradient,
                scratch,
            );
        })
    }

    fn convolve_kernel_gradient(
        of_result: FlexTensor,
        images: FlexTensor,
        convolution: Convolution,
        precision: Precision,
    ) -> FlexTensor {
        let [of_result, images] = [of_result, images].map(contiguous);
        let [height, width] = convolution.axes;
        let elements = height.size * width.size * convolution.inputs * convolution.outputs;
        filled([elements], |gradient, scratch| {
            let (of_result, images) = (floats(&of_result), floats(&images));
            kernel_gradient(
                arithmetic(precision),
                &convolution,
                images,
                of_result,
                gradient,
                scratch,
            );
        })
    }

    fn dense(
        x: FlexTensor,
        kernel: FlexTensor,
        bias: FlexTensor,
        relu: bool,
        precision: Precision,
    ) -> FlexTensor {
        let [x, kernel, bias] = [x, kernel, bias].map(contiguous);
        let [rows, inputs] = x.shape().dims();
        let outputs = kernel.shape()[0] / inputs;
        filled([rows, outputs], |result, scratch| {
            let left = Matrix::new(floats(&x), rows, inputs);
            let right = Matrix::new(floats(&kernel), inputs, outputs);
            let finish = Finish { bias: Some(floats(&bias)), relu };
            multiply(arithmetic(precision), left, right, finish, result, scratch);
        })
    }

    fn dense_x_gradient(
        of_result: FlexTensor,
        kernel: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        let [of_result, kernel] = [of_result, kernel].map(contiguous);
        let [rows, outputs] = of_result.shape().dims();
        let inputs = kernel.shape()[0] / outputs;
        filled([rows, inputs], |gradient, scratch| {
            let left = Matrix::new(floats(&of_result), rows, outputs);
            let right = Matrix::new(floats(&kernel), inputs, outputs).transposed();
            if rows <= FEW_ROWS {
                multiply_transposed(arithmetic(precision), left, right, gradient, scratch);
            } else {
                multiply(arithmetic(precision), left, right, Finish::default(), gradient, scratch);
            }
        })
    }

    fn dense_kernel_gradient(
        of_result: FlexTensor,
        x: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        let [of_result, x] = [of_result, x].map(contiguous);
        let [rows, outputs] = of_result.shape().dims();
        let [_, inputs] = x.shape().dims();
        filled([inputs * outputs], |gradient, scratch| {
            let left = Matrix::new(floats(&x), rows, inputs).transposed();
            let right = Matrix::new(floats(&of_result), rows, outputs);
            multiply(arithmetic(precision), left, right, Finish::default(), gradient, scratch);
        })
    }

    fn sum_rows(
        places: FlexTensor,
        kernel: FlexTensor,
        bias: FlexTensor,
        relu: bool,
    ) -> FlexTensor {
        let [places, kernel, bias] = [places, kernel, bias].map(contiguous);
        let [rows, count] = places.shape().dims();
        filled([rows, bias.shape()[0]], |result, _| {
            let finish = Finish { bias: Some(floats(&bias)), relu };
            sum_rows(Isa::current(), floats(&kernel), floats(&places), count, finish, result);
        })
    }

    fn sum_rows_gradient(of_result: FlexTensor, places: FlexTensor, elements: usize) -> FlexTensor {
        let [of_result, places] = [of_result, places].map(contiguous);
        let [_, width] = of_result.shape().dims();
        let [_, count] = places.shape().dims();
        filled([elements], |gradient, _| {
            let (of_result, places) = (floats(&of_result), floats(&places));
            add_to_rows(Isa::current(), of_result, width, places, count, gradient);
        })
    }

    fn relu_gradient(of_result: FlexTensor, result: FlexTensor) -> FlexTensor {
        let [of_result, result] = [of_result, result].map(contiguous);
        let shape: [usize; 2] = of_result.shape().dims();
        let gradient = keep_positive(floats(&of_result), floats(&result));
        tensor(gradient, shape)
    }

    fn bias_gradient(of_result: FlexTensor, channels: usize) -> FlexTensor {
        let of_result = contiguous(of_result);
        filled([channels], |sums, _| column_sums(floats(&of_result), sums))
    }

    fn max_pool(images: FlexTensor, pooling: Pooling) -> (FlexTensor, FlexTensor) {
        let images = contiguous(images);
        let [height, width] = pooling.axes;
        let shape = [images.shape()[0], height.output * width.output * pooling.channels];
        let mut places = vec![0_u32; shape.iter().product()];
        let result = filled(shape, |result, _| {
            pool_max(Isa::current(), &pooling, floats(&images), result, &mut places);
        });
        (result, Flex::int_from_data(TensorData::new(places, shape), &Default::default()))
    }

    fn max_pool_gradient(
        of_result: FlexTensor,
        places: FlexTensor,
        pooling: Pooling,
    ) -> FlexTensor {
        let of_result = contiguous(of_result);
        let [height, width] = pooling.axes;
        let shape = [of_result.shape()[0], height.input * width.input * pooling.channels];
        filled(shape, |gradient, _| {
            let places = places.as_slice::<u32>().expect("places are kept as they were made");
            pool_max_gradient(&pooling, floats(&of_result), places, gradient);
        })
    }

    fn normalize(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [x, gamma, beta] = [x, gamma, beta].map(contiguous);
        let [rows, channels] = x.shape().dims();
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        moments(Isa::current(), floats(&x), &mut mean, &mut variance);
        let result = filled([rows, channels], |result, _| {
            let scale = scales(&variance, epsilon);
            let of = Moments { mean: &mean, scale: &scale };
            normalize(Isa::current(), floats(&x), of, floats(&gamma), floats(&beta), result);
        });
        (result, tensor(mean, [channels]), tensor(variance, [channels]))
    }

    fn normalize_gradient(
        of_result: FlexTensor,
        x: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        gamma: FlexTensor,
        epsilon: f64,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [of_result, x, mean] = [of_result, x, mean].map(contiguous);
        let [variance, gamma] = [variance, gamma].map(contiguous);
        let [rows, channels] = x.shape().dims();
        let scale = scales(floats(&variance), epsilon);
        let (mut of_gamma, mut of_beta) = (vec![0.0; channels], vec![0.0; channels]);
        let of_x = filled([rows, channels], |of_x, _| {
            let of = Moments { mean: floats(&mean), scale: &scale };
            let (x, slopes) = (floats(&x), floats(&of_result));
            let sums = [of_gamma.as_mut_slice(), of_beta.as_mut_slice()];
            normalize_gradient(Isa::current(), x, slopes, of, floats(&gamma), of_x, sums);
        });
        (of_x, tensor(of_gamma, [channels]), tensor(of_beta, [channels]))
    }
}

/// 1 / √(variance + epsilon).
#[expect(clippy::cast_possible_truncation, reason = "scales are single precision")]
fn scales(variance: &[f32], epsilon: f64) -> Vec<f32> {
    let scale = |variance: &f32| (f64::from(*variance) + epsilon).sqrt().recip() as f32;
    variance.iter().map(scale).collect()
}

fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("a contiguous tensor of floats is a slice")
}

/// A tensor of this shape, as `fill` makes it of zeros.
fn filled<const D: usize>(
    shape: [usize; D],
    fill: impl FnOnce(&mut [f32], &mut Scratch),
) -> FlexTensor {
    let mut elements = vec![0.0; shape.iter().product()];
    SCRATCH.with_borrow_mut(|scratch| fill(&mut elements, scratch));
    tensor(elements, shape)
}

fn tensor<const D: usize>(elements: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    Flex::float_from_data(TensorData::new(elements, shape), &Default::default())
}
