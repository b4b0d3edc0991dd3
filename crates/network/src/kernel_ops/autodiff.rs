//! The operations with gradients: what is kept of each for its backward pass, and that.

use arrowhop_kernels::{Convolution, Pooling};
use arrowhop_types::Precision;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, TensorMetadata};

use super::KernelOps;

/// The backward pass of [`KernelOps::convolve`].
#[derive(Debug)]
struct Convolve;

/// Images, kernel, and what was done with them.
type ConvolveState<B> = (FloatTensor<B>, FloatTensor<B>, Convolution, Precision, Finished<B>);

/// The result, where nothing was left below 0 in it.
type Finished<B> = Option<FloatTensor<B>>;

/// The gradient by what was there before.
fn before_relu<B: KernelOps>(of_result: FloatTensor<B>, finished: Finished<B>) -> FloatTensor<B> {
    match finished {
        Some(result) => B::relu_gradient(of_result, result),
        None => of_result,
    }
}

/// The backward pass of [`KernelOps::dense`].
#[derive(Debug)]
struct Dense;

impl<B: KernelOps> Backward<B, 3> for Convolve {
    type State = ConvolveState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [images, kernel, bias] = ops.parents;
        let (x, k, convolution, precision, finished) = ops.state;
        let of_result = before_relu::<B>(grads.consume::<B>(&ops.node), finished);
        if let Some(node) = bias {
            let gradient = B::bias_gradient(of_result.clone(), convolution.outputs);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = kernel {
            let of_result = of_result.clone();
            let gradient = B::convolve_kernel_gradient(of_result, x, convolution, precision);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = images {
            let gradient = B::convolve_images_gradient(of_result, k, convolution, precision);
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: KernelOps> Backward<B, 3> for Dense {
    type State = (FloatTensor<B>, FloatTensor<B>, Precision, Finished<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x, kernel, bias] = ops.parents;
        let (rows, k, precision, finished) = ops.state;
        let of_result = before_relu::<B>(grads.consume::<B>(&ops.node), finished);
        if let Some(node) = bias {
            let channels = of_result.shape()[1];
            grads.register::<B>(node.id, B::bias_gradient(of_result.clone(), channels));
        }
        if let Some(node) = kernel {
            let gradient = B::dense_kernel_gradient(of_result.clone(), rows, precision);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = x {
            grads.register::<B>(node.id, B::dense_x_gradient(of_result, k, precision));
        }
    }
}

/// The backward pass of [`KernelOps::sum_rows`].
#[derive(Debug)]
struct SumRows;

impl<B: KernelOps> Backward<B, 2> for SumRows {
    /// The places, and the kernel's elements.
    type State = (FloatTensor<B>, usize, Finished<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [kernel, bias] = ops.parents;
        let (places, elements, finished) = ops.state;
        let of_result = before_relu::<B>(grads.consume::<B>(&ops.node), finished);
        if let Some(node) = bias {
            let channels = of_result.shape()[1];
            grads.register::<B>(node.id, B::bias_gradient(of_result.clone(), channels));
        }
        if let Some(node) = kernel {
            grads.register::<B>(node.id, B::sum_rows_gradient(of_result, places, elements));
        }
    }
}

/// The backward pass of [`KernelOps::max_pool`].
#[derive(Debug)]
struct MaxPool;

impl<B: KernelOps> Backward<B, 1> for MaxPool {
    type State = (IntTensor<B>, Pooling);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [images] = ops.parents;
        let of_result = grads.consume::<B>(&ops.node);
        let (places, pooling) = ops.state;
        if let Some(node) = images {
            grads.register::<B>(node.id, B::max_pool_gradient(of_result, places, pooling));
        }
    }
}

/// The backward pass of [`KernelOps::normalize`].
#[derive(Debug)]
struct Normalize;

impl<B: KernelOps> Backward<B, 3> for Normalize {
    /// x, its mean and variance, gamma; epsilon.
    type State = ([FloatTensor<B>; 4], f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let of_result = grads.consume::<B>(&ops.node);
        let ([x, mean, variance, gamma], epsilon) = ops.state;
        let (of_x, of_gamma, of_beta) =
            B::normalize_gradient(of_result, x, mean, variance, gamma, epsilon);
        for (node, gradient) in ops.parents.into_iter().zip([of_x, of_gamma, of_beta]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: KernelOps, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
    fn convolve(
        images: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        convolution: Convolution,
        relu: bool,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (images, of_images) = images.into_parts();
        let (kernel, of_kernel) = kernel.into_parts();
        let (x, k) = (images.clone(), kernel.clone());
        let (bias, of_bias) = bias.into_parts();
        let prepared = Convolve.prepare::<C>([of_images, of_kernel, of_bias]);
        let result = B::convolve(images, kernel, bias, convolution, relu, precision);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let finished = relu.then(|| result.clone());
                tracked.finish((x, k, convolution, precision, finished), result)
            }
            OpsKind::UnTracked(untracked) => untracked.finish(result),
        }
    }

    fn convolve_images_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Convolution,
        _: Precision,
    ) -> FloatTensor<Self> {
        unimplemented_gradient()
    }

    fn convolve_kernel_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Convolution,
        _: Precision,
    ) -> FloatTensor<Self> {
        unimplemented_gradient()
    }

    fn dense(
        x: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        let (kernel, of_kernel) = kernel.into_parts();
        let (rows, k) = (x.clone(), kernel.clone());
        let (bias, of_bias) = bias.into_parts();
        let prepared = Dense.prepare::<C>([of_x, of_kernel, of_bias]);
        let result = B::dense(x, kernel, bias, relu, precision);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let finished = relu.then(|| result.clone());
                tracked.finish((rows, k, precision, finished), result)
            }
            OpsKind::UnTracked(untracked) => untracked.finish(result),
        }
    }

    fn dense_x_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Precision,
    ) -> FloatTensor<Self> {
        unimplemented_gradient()
    }

    fn dense_kernel_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Precision,
    ) -> FloatTensor<Self> {
        unimplemented_gradient()
    }

    fn sum_rows(
        places: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let places = places.into_primitive();
        let (kernel, of_kernel) = kernel.into_parts();
        let (bias, of_bias) = bias.into_parts();
        let (seen, elements) = (places.clone(), kernel.shape()[0]);
        let prepared = SumRows.prepare::<C>([of_kernel, of_bias]);
        let result = B::sum_rows(places, kernel, bias, relu);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let finished = relu.then(|| result.clone());
                tracked.finish((seen, elements, finished), result)
            }
            OpsKind::UnTracked(untracked) => untracked.finish(result),
        }
    }

    fn sum_rows_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: usize,
    ) -> FloatTensor<Self> {
        unimplemented_gradient()
    }

    fn relu_gradient(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        unimplemented_gradient()
    }

    fn bias_gradient(_: FloatTensor<Self>, _: usize) -> FloatTensor<Self> {
        unimplemented_gradient()
    }

    fn max_pool(
        images: FloatTensor<Self>,
        pooling: Pooling,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        let (images, of_images) = images.into_parts();
        let (result, places) = B::max_pool(images, pooling);
        let result = match MaxPool.prepare::<C>([of_images]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => tracked.finish((places.clone(), pooling), result),
            OpsKind::UnTracked(untracked) => untracked.finish(result),
        };
        (result, places)
    }

    fn max_pool_gradient(
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: Pooling,
    ) -> FloatTensor<Self> {
        unimplemented_gradient()
    }

    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, of_x) = x.into_parts();
        let (gamma, of_gamma) = gamma.into_parts();
        let (beta, of_beta) = beta.into_parts();
        let (result, mean, variance) = B::normalize(x.clone(), gamma.clone(), beta, epsilon);
        let prepared = Normalize.prepare::<C>([of_x, of_gamma, of_beta]);
        let result = match prepared.compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let kept = [x, mean.clone(), variance.clone(), gamma];
                tracked.finish((kept, epsilon), result)
            }
            OpsKind::UnTracked(untracked) => untracked.finish(result),
        };
        // No gradient goes through the moments by themselves.
        (result, Self::from_inner(mean), Self::from_inner(variance))
    }

    fn normalize_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unimplemented_gradient()
    }
}

/// Gradients are not differentiated again.
fn unimplemented_gradient<T>() -> T {
    panic!("a gradient has no gradient here")
}
