//! Activation functions, by Keras's names and formulas.

use burn::tensor::{Tensor, activation as burn_activation};

/// An element-wise function, or softmax over the last (channel) axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Linear,
    Relu,
    Relu6,
    Sigmoid,
    /// clip(0.2 x + 0.5) of Keras 2.
    HardSigmoid2,
    /// clip(x / 6 + 0.5) of Keras 3.
    HardSigmoid3,
    Tanh,
    Softmax,
    Elu,
    Selu,
    Softplus,
    Softsign,
    Exponential,
    /// The exact form, with erf.
    Gelu,
    Silu,
}

impl Activation {
    /// By Keras's name, which means something else in another major version for `hard_sigmoid`.
    pub(crate) fn from_keras(name: &str, keras_major: u32) -> Option<Self> {
        Some(match name {
            "linear" => Self::Linear,
            "relu" => Self::Relu,
            "relu6" => Self::Relu6,
            "sigmoid" => Self::Sigmoid,
            "hard_sigmoid" if keras_major >= 3 => Self::HardSigmoid3,
            "hard_sigmoid" => Self::HardSigmoid2,
            "tanh" => Self::Tanh,
            "softmax" => Self::Softmax,
            "elu" => Self::Elu,
            "selu" => Self::Selu,
            "softplus" => Self::Softplus,
            "softsign" => Self::Softsign,
            "exponential" => Self::Exponential,
            "gelu" => Self::Gelu,
            "swish" | "silu" => Self::Silu,
            _ => return None,
        })
    }

    /// Applies it; the channel axis is 1, whatever the rank.
    pub(crate) fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Linear => x,
            Self::Relu => burn_activation::relu(x),
            Self::Relu6 => burn_activation::relu6(x),
            Self::Sigmoid => burn_activation::sigmoid(x),
            Self::HardSigmoid2 => burn_activation::hard_sigmoid(x, 0.2, 0.5),
            Self::HardSigmoid3 => burn_activation::hard_sigmoid(x, 1.0 / 6.0, 0.5),
            Self::Tanh => x.tanh(),
            Self::Softmax => burn_activation::softmax(x, 1),
            Self::Elu => burn_activation::elu(x, 1.0),
            Self::Selu => burn_activation::selu(x),
            Self::Softplus => burn_activation::softplus(x, 1.0),
            Self::Softsign => burn_activation::softsign(x),
            Self::Exponential => x.exp(),
            Self::Gelu => burn_activation::gelu(x),
            Self::Silu => burn_activation::silu(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn at(name: &str, keras_major: u32, x: f32) -> f32 {
        let x = Tensor::<2>::from_floats([[x]], &Device::flex());
        Activation::from_keras(name, keras_major).unwrap().forward(x).into_scalar()
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

    #[test]
    fn hard_sigmoid_depends_on_the_version() {
        assert!((at("hard_sigmoid", 2, 1.0) - 0.7).abs() < 1e-6);
        assert!((at("hard_sigmoid", 3, 1.0) - 0.666_666_7).abs() < 1e-6);
        assert_eq!(Activation::from_keras("swoosh", 2), None);
    }
}
