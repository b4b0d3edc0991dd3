//! Activation functions, by Keras's names and formulas.

use burn::tensor::{Tensor, activation as burn_activation};

use crate::value::Value;

/// An element-wise function, or softmax over the last axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    Linear,
    Relu,
    /// Keras's ReLU layer: `slope` · (x − threshold) below the threshold, x above it, at most `max`.
    BoundedRelu {
        max: Option<f64>,
        slope: f64,
        threshold: f64,
    },
    /// x above 0, `slope` · x below.
    LeakyRelu {
        slope: f64,
    },
    Sigmoid,
    /// clip(0.2 x + 0.5) of Keras 2.
    HardSigmoid2,
    /// clip(x / 6 + 0.5) of Keras 3.
    HardSigmoid3,
    Tanh,
    /// Over the last axis.
    Softmax,
    /// log(softmax) over the last axis.
    LogSoftmax,
    Elu {
        alpha: f64,
    },
    Selu,
    Softplus,
    Softsign,
    Exponential,
    /// The exact form, with erf.
    Gelu,
    Silu,
    /// x · tanh(softplus(x)).
    Mish,
    /// x · hard sigmoid of Keras 3.
    HardSilu,
}

impl Activation {
    /// By Keras's name, which means something else in another major version for `hard_sigmoid`.
    pub(crate) fn from_keras(name: &str, keras_major: u32) -> Option<Self> {
        Some(match name {
            "linear" => Self::Linear,
            "relu" => Self::Relu,
            "relu6" => Self::BoundedRelu { max: Some(6.0), slope: 0.0, threshold: 0.0 },
            // Keras 2 has the name for a slope of 0.2, Keras 3 too.
            "leaky_relu" => Self::LeakyRelu { slope: 0.2 },
            "sigmoid" => Self::Sigmoid,
            "hard_sigmoid" if keras_major >= 3 => Self::HardSigmoid3,
            "hard_sigmoid" => Self::HardSigmoid2,
            "tanh" => Self::Tanh,
            "softmax" => Self::Softmax,
            "log_softmax" => Self::LogSoftmax,
            "elu" => Self::Elu { alpha: 1.0 },
            "selu" => Self::Selu,
            "softplus" => Self::Softplus,
            "softsign" => Self::Softsign,
            "exponential" => Self::Exponential,
            "gelu" => Self::Gelu,
            "swish" | "silu" => Self::Silu,
            "mish" => Self::Mish,
            "hard_silu" | "hard_swish" => Self::HardSilu,
            _ => return None,
        })
    }

    /// Applies it to a batch of any shape.
    pub(crate) fn forward(self, x: Value) -> Value {
        match self {
            Self::Linear => x,
            Self::Softmax | Self::LogSoftmax => {
                let shape = x.shape().to_vec();
                let mask = x.mask.clone();
                let width = shape.last().copied().unwrap_or(1);
                let elements: usize = shape.iter().product();
                let vectors = x.batch() * elements / width;
                let rows = x.rows().reshape([vectors, width]);
                let rows = match self {
                    Self::Softmax => burn_activation::softmax(rows, 1),
                    _ => burn_activation::log_softmax(rows, 1),
                };
                let batch = vectors * width / elements;
                Value::of_rows(rows.reshape([batch, elements]), shape).with_mask(mask)
            }
            elementwise => x.map(|rows| elementwise.apply(rows)),
        }
    }

    /// Applies it to vectors in rows.
    pub(crate) fn apply(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear => x,
            Self::Relu => burn_activation::relu(x),
            Self::BoundedRelu { max, slope, threshold } => bounded_relu(x, max, slope, threshold),
            Self::LeakyRelu { slope } => burn_activation::leaky_relu(x, slope),
            Self::Sigmoid => burn_activation::sigmoid(x),
            Self::HardSigmoid2 => burn_activation::hard_sigmoid(x, 0.2, 0.5),
            Self::HardSigmoid3 => burn_activation::hard_sigmoid(x, 1.0 / 6.0, 0.5),
            Self::Tanh => x.tanh(),
            Self::Softmax => burn_activation::softmax(x, 1),
            Self::LogSoftmax => burn_activation::log_softmax(x, 1),
            Self::Elu { alpha } => burn_activation::elu(x, alpha),
            Self::Selu => burn_activation::selu(x),
            Self::Softplus => burn_activation::softplus(x, 1.0),
            Self::Softsign => burn_activation::softsign(x),
            Self::Exponential => x.exp(),
            Self::Gelu => burn_activation::gelu(x),
            Self::Silu => burn_activation::silu(x),
            Self::Mish => burn_activation::mish(x),
            Self::HardSilu => x.clone() * burn_activation::hard_sigmoid(x, 1.0 / 6.0, 0.5),
        }
    }
}

/// Source: Keras's `relu(x, negative_slope, max_value, threshold)`.
fn bounded_relu(x: Tensor<2>, max: Option<f64>, slope: f64, threshold: f64) -> Tensor<2> {
    let is_above = x.clone().greater_elem(threshold);
    let above = match max {
        Some(max) => x.clone().clamp_max(max),
        None => x.clone(),
    };
    let below = (x - threshold) * slope;
    below.mask_where(is_above, above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn at(name: &str, keras_major: u32, x: f32) -> f32 {
        let x = Tensor::<2>::from_floats([[x]], &Device::flex());
        Activation::from_keras(name, keras_major).unwrap().apply(x).into_scalar()
    }

    /// Values by the formulas, worked out in double precision.
    #[test]
    fn each_activation_has_keras_values() {
        let table = [
            ("linear", -1.5, -1.5),
            ("relu", -1.5, 0.0),
            ("relu6", 7.0, 6.0),
            ("sigmoid", 1.0, 0.731_058_6),
            ("tanh", 0.5, 0.462_117_16),
            ("elu", -1.0, -0.632_120_55),
            ("selu", -1.0, -1.111_330_8),
            ("selu", 2.0, 2.101_402),
            ("softplus", 1.0, 1.313_261_7),
            ("softsign", -3.0, -0.75),
            ("exponential", 1.0, 2.718_281_7),
            ("gelu", 1.0, 0.841_344_7),
            ("swish", 1.0, 0.731_058_6),
            ("silu", -1.0, -0.268_941_43),
        ];
        for (name, x, expected) in table {
            let value = at(name, 2, x);
            assert!((value - expected).abs() < 2e-6, "{name}({x}) = {value}, not {expected}");
        }
    }

    /// Values by Keras 2.15 and 3.15: at the threshold itself the lower piece holds.
    #[test]
    fn bounded_relu_has_three_pieces() {
        let table = [
            (None, 0.0, [0.0, 0.0, 1.5, 7.0, 0.0]),
            (None, 0.5, [-0.25, 0.0, 1.5, 7.0, -1.5]),
            (Some(6.0), 0.5, [-0.25, 0.0, 1.5, 6.0, -1.5]),
        ];
        for (max, slope, expected) in table {
            let x = Tensor::<2>::from_floats([[0.5, 1.0, 1.5, 7.0, -2.0]], &Device::flex());
            let relu = Activation::BoundedRelu { max, slope, threshold: 1.0 };
            let found: Vec<f32> = relu.apply(x).into_data().try_into_vec().unwrap();
            assert_eq!(found, expected, "{max:?} {slope}");
        }
    }

    #[test]
    fn hard_sigmoid_depends_on_the_version() {
        assert!((at("hard_sigmoid", 2, 1.0) - 0.7).abs() < 1e-6);
        assert!((at("hard_sigmoid", 3, 1.0) - 0.666_666_7).abs() < 1e-6);
        assert_eq!(Activation::from_keras("swoosh", 2), None);
    }
}
