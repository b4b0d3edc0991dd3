//! Each layer class that is supported: its options, and whether they fit its inputs' shapes.
//!
//! Every reader reads all options before it looks at the inputs, whose shapes are unknown when an
//! earlier layer has problems, so that one pass finds them all. Classes are read by family, and the
//! number of their spatial axes aside: Conv1D, Conv2D and Conv3D are one.

pub(super) mod activation;
mod arrays;
mod attention;
mod bidirectional;
mod convolution;
mod dense;
mod merge;
mod noise;
mod normalization;
mod pooling;
mod recurrent;
mod sequence;
mod shape;
#[cfg(test)]
mod tests;
mod windows;

use super::{ELEMENTS_MAX, elements, options};
use crate::activation::Activation;
use crate::fields::Fields;
use crate::layer::{AXES_MAX, MaskRule, Merge, Operation, Pool, Shape, Weight};

/// What a layer's class and options make of it on inputs of known shapes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fitted {
    pub(super) operation: Operation,
    pub(super) activation: Activation,
    pub(super) weights: Vec<Weight>,
    pub(super) outputs: Vec<Shape>,
    pub(super) macs: u64,
    pub(super) mask: MaskRule,
}

/// What a layer's options alone do not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    /// The version of Keras that wrote the text.
    pub(super) keras_major: u32,
    /// False inside a frozen model.
    pub(super) is_trainable: bool,
}

impl Fitted {
    /// Without weights and activation, and ignorant of masks.
    fn of(operation: Operation, output: Shape) -> Self {
        Self {
            operation,
            activation: Activation::Linear,
            weights: Vec::new(),
            outputs: vec![output],
            macs: 0,
            mask: MaskRule::Drop,
        }
    }

    fn weighted(self, weights: Vec<Weight>, macs: u64) -> Self {
        Self { weights, macs, ..self }
    }

    fn activated(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    fn masked(self, mask: MaskRule) -> Self {
        Self { mask, ..self }
    }
}

/// Reads the options of a layer; `None` when it has problems (noted in `fields`) or `inputs` is
/// unknown (then all options are still read and checked).
pub(super) fn read_layer(
    class: &str,
    fields: &mut Fields<'_>,
    inputs: Option<&[Shape]>,
    context: &Context,
) -> Option<Fitted> {
    let is_trainable = context.is_trainable & fields.flag("trainable", true);
    let context = &Context { is_trainable, ..*context };
    options::refuse_unsupported(fields);
    let fitted = match class {
        "Add" => merge::elementwise(fields, Merge::Add, inputs, context),
        "Subtract" => merge::elementwise(fields, Merge::Subtract, inputs, context),
        "Multiply" => merge::elementwise(fields, Merge::Multiply, inputs, context),
        "Average" => merge::elementwise(fields, Merge::Average, inputs, context),
        "Maximum" => merge::elementwise(fields, Merge::Maximum, inputs, context),
        "Minimum" => merge::elementwise(fields, Merge::Minimum, inputs, context),
        "Concatenate" => merge::concatenate(fields, inputs, context),
        "Dot" => merge::dot(fields, inputs),
        "SimpleRNN" | "LSTM" | "GRU" => recurrent::recurrent(class, fields, inputs, context),
        "Bidirectional" => bidirectional::bidirectional(fields, inputs, context),
        "MultiHeadAttention" => attention::multi_head_attention(fields, inputs, context),
        _ => read_single(class, fields, inputs, context),
    };
    let fitted = fitted?;
    check_sizes(&fitted, fields);
    fields.problems().is_empty().then_some(fitted)
}

/// Reads a layer that takes one input.
fn read_single(
    class: &str,
    fields: &mut Fields<'_>,
    inputs: Option<&[Shape]>,
    context: &Context,
) -> Option<Fitted> {
    let input = match inputs {
        Some([input]) => Some(input.as_slice()),
        _ => None,
    };
    let read = match family_of(class) {
        (_, 0) => read_simple(class, fields, input, context),
        (family, axes) => read_spatial(&family, fields, axes, input, context),
    };
    let Some(fitted) = read else {
        refuse(fields, class);
        return None;
    };
    if let Some(inputs) = inputs
        && inputs.len() != 1
    {
        fields.problem_here(format!("{class} takes one input, not {}", inputs.len()));
    }
    fitted
}

/// `SeparableConv` and 2 of `SeparableConv2D`; 0 where a class says nothing of axes.
fn family_of(class: &str) -> (String, usize) {
    for (axes, text) in [(1, "1D"), (2, "2D"), (3, "3D")] {
        if let Some((before, after)) = class.split_once(text) {
            return (format!("{before}{after}"), axes);
        }
    }
    (class.to_owned(), 0)
}

/// Reads a layer over spatial axes; `None` where there is no such class.
fn read_spatial(
    family: &str,
    fields: &mut Fields<'_>,
    axes: usize,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Option<Fitted>> {
    Some(match (family, axes) {
        ("Conv" | "Convolution", _) => convolution::plain(fields, axes, input, context),
        ("ConvTranspose" | "ConvolutionTranspose" | "Deconvolution", _) => {
            convolution::transposed(fields, axes, input, context)
        }
        ("DepthwiseConv" | "DepthwiseConvolution", 1 | 2) => {
            convolution::depthwise(fields, axes, input, context)
        }
        ("SeparableConv" | "SeparableConvolution", 1 | 2) => {
            convolution::separable(fields, axes, input, context)
        }
        ("MaxPooling" | "MaxPool", _) => pooling::pooling(fields, Pool::Max, axes, input),
        ("AveragePooling" | "AvgPool", _) => pooling::pooling(fields, Pool::Average, axes, input),
        ("GlobalMaxPooling" | "GlobalMaxPool", _) => {
            pooling::global(fields, Pool::Max, axes, input)
        }
        ("GlobalAveragePooling" | "GlobalAvgPool", _) => {
            pooling::global(fields, Pool::Average, axes, input)
        }
        ("ZeroPadding", _) => shape::zero_padding(fields, axes, input),
        ("Cropping", _) => shape::cropping(fields, axes, input),
        ("UpSampling", _) => shape::up_sampling(fields, axes, input),
        ("SpatialDropout", _) => noise::spatial_dropout(fields, axes, input),
        _ => return None,
    })
}

/// Reads any other layer that takes one input; `None` where there is no such class.
fn read_simple(
    class: &str,
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Option<Fitted>> {
    Some(match class {
        "Dense" => dense::dense(fields, input, context),
        "PReLU" => dense::parametric_relu(fields, input, context),
        "Activation" => activation::by_name(fields, input, context),
        "Softmax" => activation::softmax(fields, input),
        "ReLU" | "LeakyReLU" | "ELU" | "ThresholdedReLU" => {
            activation::by_class(class, fields, input)
        }
        "BatchNormalization" | "BatchNormalizationV1" | "BatchNormalizationV2" => {
            normalization::batch(fields, input, context)
        }
        "LayerNormalization" => normalization::layer(fields, input, context),
        "GroupNormalization" => normalization::group(fields, input, context),
        "Rescaling" => normalization::rescaling(fields, input),
        "Dropout" => noise::dropout(fields, input),
        "GaussianNoise" => noise::gaussian_noise(fields, input),
        "GaussianDropout" => noise::gaussian_dropout(fields, input),
        "AlphaDropout" => noise::alpha_dropout(fields, input),
        "Identity" => noise::identity(input),
        "Flatten" => shape::flatten(fields, input),
        "Reshape" => shape::reshape(fields, input),
        "Permute" => shape::permute(fields, input),
        "RepeatVector" => shape::repeat_vector(fields, input),
        "Embedding" => sequence::embedding(fields, input, context),
        "Masking" => sequence::masking(fields, input),
        "TimeDistributed" => sequence::time_distributed(fields, input, context),
        _ => return None,
    })
}

/// Notes what is missing for a layer of this class, and what to do about it.
fn refuse(fields: &mut Fields<'_>, class: &str) {
    let class: String = class.chars().take(80).collect();
    let advice = match class.as_str() {
        "Lambda" => "; it holds code, which is never run: replace it by a layer",
        "Sequential" | "Functional" | "Model" => "; a wrapper takes one layer",
        "TFOpLambda" | "SlicingOpLambda" | "TensorFlowOpLayer" => {
            "; write the operation as a layer, such as Add, Multiply, Rescaling or Reshape"
        }
        "CuDNNLSTM" | "CuDNNGRU" => "; export the model with LSTM or GRU",
        "RNN" | "StackedRNNCells" => "; stack SimpleRNN, LSTM or GRU layers",
        "ConvLSTM1D" | "ConvLSTM2D" | "ConvLSTM3D" => {
            "; use TimeDistributed convolutions and an LSTM"
        }
        "Attention" | "AdditiveAttention" | "GroupQueryAttention" => "; use MultiHeadAttention",
        "LocallyConnected1D" | "LocallyConnected2D" => "; use a convolution",
        "UnitNormalization" | "SpectralNormalization" | "SyncBatchNormalization" => {
            "; use BatchNormalization, LayerNormalization or GroupNormalization"
        }
        "Normalization" | "Resizing" | "CenterCrop" | "Discretization" | "CategoryEncoding"
        | "Hashing" | "StringLookup" | "IntegerLookup" | "TextVectorization" => {
            "; prepare the data before it is loaded"
        }
        _ => "",
    };
    fields.problem_here(format!("layer class {class:?} is not supported{advice}"));
}

/// No output and no weight array may be too large.
fn check_sizes(fitted: &Fitted, fields: &mut Fields<'_>) {
    for output in &fitted.outputs {
        if elements(output).is_none() {
            let text = format!("its output {output:?} has more than {ELEMENTS_MAX} elements");
            fields.problem_here(text);
        }
        if output.len() > AXES_MAX {
            fields.problem_here(format!("its output {output:?} has more than {AXES_MAX} axes"));
        }
    }
    for Weight { name, shape, .. } in &fitted.weights {
        if elements(shape).is_none() {
            let text = format!("its {name} {shape:?} has more than {ELEMENTS_MAX} elements");
            fields.problem_here(text);
        }
    }
}

/// The product of these numbers, as a count of multiply-accumulates.
fn macs(factors: impl IntoIterator<Item = usize>) -> u64 {
    factors.into_iter().fold(1, |product: u64, factor| product.saturating_mul(factor as u64))
}
