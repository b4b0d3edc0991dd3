//! Layers that work on each vector of the last axis, or element by element with weights.

use burn::tensor::activation;

use super::Weights;
use super::shape::{aligned, dims_of};
use crate::activation::Activation;
use crate::kernel_ops;
use crate::value::Value;

/// The activation of x · kernel + bias over the last axis. Of a one-hot value the kernel's rows are gathered and
/// summed, so its vector is never written out.
pub(crate) fn dense(x: Value, activation: Activation, weights: &Weights<'_>) -> Value {
    let bias = (weights.len() == 2).then(|| weights.flat(1));
    let relu = activation == Activation::Relu;
    let finish = |made: Value| if relu { made } else { activation.forward(made) };
    let &[inputs, outputs] = weights.shape(0) else { panic!("a Dense kernel has two axes") };
    if let Some(places) = x.places() {
        let rows = kernel_ops::sum_rows(places, weights.flat(0), bias, outputs, relu);
        return finish(Value::of_rows(rows, vec![outputs]));
    }
    let batch = x.batch();
    let [shape @ .., _] = x.shape() else { panic!("a Dense layer's input has an axis") };
    let vectors: usize = shape.iter().product();
    let shape = [shape, &[outputs]].concat();
    let rows = x.rows().reshape([batch * vectors, inputs]);
    let rows = kernel_ops::dense(rows, weights.flat(0), bias, relu, weights.precision());
    finish(Value::of_rows(rows.reshape([batch, vectors * outputs]), shape))
}

/// max(0, x) + alpha · min(0, x).
pub(crate) fn parametric_relu(x: Value, weights: &Weights<'_>) -> Value {
    let alpha = weights.reshaped(0, dims_of(1, weights.shape(0)));
    let shape = x.shape().to_vec();
    let x = aligned(x);
    let negative = activation::relu(-x.clone());
    Value::of(activation::relu(x) - negative * alpha).reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, assert_close, floats, numbers, weight};
    use super::*;
    use crate::layer::Operation;
    use burn::module::Param;
    use burn::tensor::{Device, Tensor, TensorData};

    #[test]
    fn dense_works_over_the_last_axis() {
        let [x, kernel, bias] = [(4, 0), (4, 10), (2, 11)].map(|(n, seed)| numbers(n, seed));
        let unit = |step: usize, unit: usize| {
            x[2 * step] * kernel[unit] + x[2 * step + 1] * kernel[2 + unit] + bias[unit]
        };
        let case = Case {
            operation: Operation::Dense,
            inputs: &[&[2, 1, 2]],
            weights: &[&[2, 2], &[2]],
            output: &[2, 1, 2],
        };
        case.gives(&[unit(0, 0), unit(0, 1), unit(1, 0), unit(1, 1)]);
        case.has_true_gradients();
    }

    /// Two examples of width 5: ones at 3 and 1, and twice at 4.
    #[test]
    fn one_hot_values_give_what_their_vectors_give() {
        let device = Device::flex().autodiff();
        let tensor = |data: Vec<f32>, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(data, shape), &device)
        };
        let indices = tensor(vec![3.0, 1.0, 4.0, 4.0], [2, 2]);
        let vectors = tensor(vec![0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0], [2, 5]);
        let results = [Value::one_hot(indices, 5), Value::of_rows(vectors, vec![5])].map(|x| {
            let arrays = [(15, 10), (3, 11)].map(|(count, seed)| {
                Param::from_data(TensorData::new(numbers(count, seed), [count]), &device)
            });
            let specs = [weight(vec![5, 3]), weight(vec![3])];
            let output = dense(x, Activation::Linear, &Weights::new(&arrays, 0, &specs)).rows();
            let probe = tensor(numbers(6, 5), [2, 3]);
            let gradients = (output.clone() * probe).sum().backward();
            let by_array = arrays.map(|array| floats(array.val().grad(&gradients).unwrap()));
            [vec![floats(output)], by_array.to_vec()].concat()
        });
        for (one_hot, written_out) in results[0].iter().zip(&results[1]) {
            assert_close(one_hot, written_out);
        }
    }

    /// Dense, hashed and convolving layers whose activation is part of the kernel.
    #[test]
    fn rectifiers_within_kernels_are_rectifiers() {
        use super::super::check::assert_true_gradients;
        let specs = [weight(vec![4, 3]), weight(vec![3])];
        let arrays = [numbers(8, 0), numbers(12, 10), numbers(3, 11)];
        let of = |activation: Activation, arrays: &[Tensor<1>]| {
            let params = [1, 2].map(|i| Param::from_tensor(arrays[i].clone()));
            let x = Value::of_rows(arrays[0].clone().reshape([2, 4]), vec![4]);
            dense(x, activation, &Weights::new(&params, 0, &specs)).rows()
        };
        let device = Device::flex();
        let tensors = arrays.clone().map(|array| {
            let count = array.len();
            Tensor::<1>::from_data(TensorData::new(array, [count]), &device)
        });
        let (plain, rectified) =
            (floats(of(Activation::Linear, &tensors)), floats(of(Activation::Relu, &tensors)));
        assert!(plain.iter().any(|value| *value < 0.0), "{plain:?}");
        assert_eq!(rectified, plain.iter().map(|value| value.max(0.0)).collect::<Vec<_>>());
        assert_true_gradients(&arrays, |arrays| of(Activation::Relu, arrays));
    }

    /// By Keras.
    #[test]
    fn alpha_is_shared_along_axes_of_one() {
        let case = Case {
            operation: Operation::ParametricRelu,
            inputs: &[&[2, 3]],
            weights: &[&[1, 3]],
            output: &[2, 3],
        };
        case.gives(&[-0.0315, -0.272, -0.2387, 0.06, 0.43, 0.8]);
        case.has_true_gradients();
    }
}
