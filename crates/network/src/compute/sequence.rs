//! Sequences of tokens and of steps: embeddings, hidden steps, operations on each step.

use burn::tensor::Tensor;

use super::{Mode, Weights, operate};
use crate::activation::Activation;
use crate::kernel_ops::is_cpu;
use crate::layer::Operation;
use crate::value::Value;

/// The embeddings (vocabulary, width) of whole numbers. Of vectors of numbers there is a mask: those
/// other than 0 count.
///
/// # Panics
/// On the CPU, when a number has no embedding. Elsewhere to look would be to wait; whoever gives the
/// inputs has checked them.
pub(super) fn embed(x: Value, weights: &Weights<'_>) -> Value {
    let embeddings = weights.get::<2>(0);
    let [vocabulary, width] = embeddings.dims();
    let (batch, mut shape) = (x.batch(), x.shape().to_vec());
    let tokens = x.rows();
    if is_cpu(&tokens.device()) {
        check_tokens(&tokens, vocabulary);
    }
    let elements: usize = shape.iter().product();
    let mask = (shape.len() == 1).then(|| tokens.clone().not_equal_elem(0.0).float());
    shape.push(width);
    let rows = embeddings.select(0, tokens.int().reshape([batch * elements]));
    Value::of_rows(rows.reshape([batch, elements * width]), shape).with_mask(mask)
}

#[expect(clippy::cast_precision_loss, reason = "f32 counts further than vocabularies do")]
fn check_tokens(tokens: &Tensor<2>, vocabulary: usize) {
    let numbers = tokens.to_data();
    for token in numbers.iter::<f32>() {
        assert!(
            token >= 0.0 && token < vocabulary as f32,
            "an input is {token}, but its Embedding has 0 to {}",
            vocabulary - 1
        );
    }
}

/// Steps (steps, width) whose elements are all `value` become 0, and are hidden by the mask.
pub(super) fn hide(value: f64, x: Value) -> Value {
    let steps: Tensor<3> = x.tensor();
    let [batch, count, _] = steps.dims();
    let counts = steps.clone().not_equal_elem(value).float().max_dim(2);
    let mask = counts.clone().reshape([batch, count]);
    Value::of(steps * counts).with_mask(Some(mask))
}

/// The operation, then the activation, on each entry of the first axis; `output` is the shape of all
/// together.
pub(super) fn each_step(
    number: usize,
    operation: &Operation,
    activation: Activation,
    x: Value,
    weights: &Weights<'_>,
    output: &[usize],
    mode: &mut Mode<'_>,
) -> Value {
    let (batch, steps, shape) = (x.batch(), x.shape()[0], x.shape()[1..].to_vec());
    let rows = x.rows().reshape([batch * steps, shape.iter().product()]);
    let step = Value::of_rows(rows, shape);
    let made = operate(number, operation, activation, vec![step], weights, &output[1..], mode);
    let rows = made.into_iter().next().expect("an operation makes a value").rows();
    Value::of_rows(rows.reshape([batch, output.iter().product()]), output.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::check::floats;
    use crate::compute::probe::{Arrays, assert_gives, check_gradients, infer, value};
    use crate::layer::{Convolution, ConvolutionKind, Layout};
    use crate::window::{Axis, Padding, Window};
    use burn::tensor::Device;

    fn tokens(rows: [[f32; 3]; 2]) -> Value {
        Value::of(Tensor::<2>::from_floats(rows, &Device::flex()))
    }

    #[test]
    fn tokens_become_their_embeddings_and_zeros_are_hidden() {
        let arrays = Arrays::of(&[&[5, 2]], &Device::flex());
        let made = embed(tokens([[3.0, 1.0, 0.0], [0.0, 2.0, 4.0]]), &arrays.weights());
        assert_eq!(made.shape(), [3, 2]);
        assert_eq!(floats(made.mask.clone().unwrap()), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        let expected = [0.14, 0.51, 0.77, -0.97, 0.03, 0.4, 0.03, 0.4, -0.6, -0.23, 0.88, -0.86];
        assert_gives("embeddings", &made, &expected);
    }

    #[test]
    #[should_panic(expected = "an input is 5, but its Embedding has 0 to 4")]
    fn a_token_beyond_the_vocabulary_is_refused() {
        let arrays = Arrays::of(&[&[5, 2]], &Device::flex());
        embed(tokens([[3.0, 1.0, 0.0], [0.0, 5.0, 4.0]]), &arrays.weights());
    }

    #[test]
    fn gradients_reach_the_embeddings_of_repeated_tokens() {
        check_gradients(&[&[5, 2]], |device, weights, _| {
            let tokens = Tensor::<2>::from_floats([[3.0, 3.0], [0.0, 4.0]], device);
            vec![embed(Value::of(tokens), weights)]
        });
    }

    #[test]
    fn steps_of_the_masked_value_alone_are_hidden() {
        let steps = [[[2.0, 2.0], [2.0, 1.0]], [[0.0, 3.0], [2.0, 2.0]]];
        let made = hide(2.0, Value::of(Tensor::<3>::from_floats(steps, &Device::flex())));
        assert_eq!(floats(made.mask.clone().unwrap()), [0.0, 1.0, 1.0, 0.0]);
        assert_eq!(floats(made.rows()), [0.0, 0.0, 2.0, 1.0, 0.0, 3.0, 0.0, 0.0]);
    }

    /// Computed by Keras 3.15 on JAX.
    #[test]
    fn each_step_is_computed_alone() {
        let device = Device::flex();
        let run =
            |operation, activation, arrays: &[&[usize]], input: &[usize], output: &[usize]| {
                let (arrays, x) = (Arrays::of(arrays, &device), value(0, input, &device));
                infer(|mode| {
                    each_step(0, &operation, activation, x, &arrays.weights(), output, mode)
                })
            };
        let made = run(Operation::Dense, Activation::Softmax, &[&[3, 2], &[2]], &[2, 3], &[2, 2]);
        let expected =
            [0.2592251, 0.7407749, 0.5149955, 0.4850045, 0.2809004, 0.7190996, 0.542398, 0.457602];
        assert_gives("dense", &made, &expected);
        let convolution = Operation::Convolution(Convolution {
            kind: ConvolutionKind::Plain { groups: 1 },
            window: Window { axes: vec![Axis::place(2, 1, 1, Padding::Valid, 4).unwrap()] },
            layout: Layout::ChannelsLast,
            has_bias: true,
        });
        let made = run(convolution, Activation::Relu, &[&[2, 2, 3], &[3]], &[2, 4, 2], &[2, 3, 3]);
        let expected = [
            1.0930998, 0.7305, 0.0, 0.0, 0.5973001, 0.0, 0.1554999, 0.4219001, 0.0, 0.0, 0.5775001,
            0.0, 0.0, 0.4021001, 0.0, 0.7278999, 0.6909, 0.0, 0.0, 0.3823003, 0.0, 0.5452999,
            0.6711, 0.0, 1.1315, 1.5718, 0.0, 0.3627, 0.6513, 0.0, 0.9489001, 1.552, 0.0451,
            1.4718, 1.6087, 0.0,
        ];
        assert_gives("convolution", &made, &expected);
        assert_eq!(made.shape(), [2, 3, 3]);
    }
}
