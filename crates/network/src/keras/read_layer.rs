//! Each layer class that is supported: its options, and whether they fit the input's shape.
//!
//! Every reader reads all options before it looks at the input, whose shape is unknown when an
//! earlier layer has problems, so that one pass finds them all.

use super::{ELEMENTS_MAX, Unnamed, elements};
use crate::activation::Activation;
use crate::fields::Fields;
use crate::initializer::{Distribution, Fan, Initializer};
use crate::layer::{Kernel, Normalization, Operation};
use crate::options;
use crate::window::{Padding, Window};

/// A layer's operation and its output's shape.
type Fitted = (Operation, Vec<usize>);

/// Reads the layer of this class; `None` when it has problems or its input is unknown.
pub(super) fn read_layer(
    class: &str,
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    keras_major: u32,
) -> Option<Unnamed> {
    let read: (&'static str, Option<Fitted>) = match class {
        "Dense" => ("Dense", dense(fields, input)),
        "Conv2D" => ("Conv2D", convolution(fields, input)),
        "MaxPooling2D" => ("MaxPooling2D", pooling(fields, input, Operation::MaxPooling)),
        "AveragePooling2D" => {
            ("AveragePooling2D", pooling(fields, input, Operation::AveragePooling))
        }
        "GlobalAveragePooling2D" => {
            ("GlobalAveragePooling2D", global_average_pooling(fields, input))
        }
        "Flatten" => ("Flatten", flatten(fields, input)),
        "Dropout" => ("Dropout", dropout(fields, input)),
        "BatchNormalization" => {
            ("BatchNormalization", batch_normalization(fields, input, keras_major))
        }
        "Activation" => ("Activation", activation_only(fields, input)),
        "ReLU" => ("ReLU", relu(fields, input)),
        other => {
            fields.problem_here(unsupported(other));
            return None;
        }
    };
    options::refuse_unsupported(fields);
    let activation = match class {
        "Dense" | "Conv2D" | "Activation" => options::activation(fields, "activation", keras_major),
        "ReLU" if fields.value("max_value").is_some() => Activation::Relu6,
        "ReLU" => Activation::Relu,
        _ => Activation::Linear,
    };
    let (class, fitted) = read;
    let (operation, output) = fitted?;
    if elements(&output).is_none() {
        fields.problem_here(format!("its output {output:?} has more than {ELEMENTS_MAX} elements"));
    }
    let (input, is_trainable) = (input?.to_vec(), fields.flag("trainable", true));
    Some(Unnamed { class, is_trainable, operation, activation, input, output })
}

fn unsupported(class: &str) -> String {
    match class {
        "Lambda" => "Lambda layers hold code, which is never run; replace it by a layer".into(),
        "Sequential" | "Functional" | "Model" => {
            format!("nested {class} models are not supported; put their layers here")
        }
        _ => {
            let class: String = class.chars().take(80).collect();
            format!("layer class {class:?} is not supported")
        }
    }
}

fn dense(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let units = fields.required_size("units");
    let kernel = kernel(fields, |units_in| vec![units_in, units.unwrap_or(1)], input);
    let [_] = input? else {
        fields.problem_here(format!(
            "Dense on an input of shape {:?} is not supported; add Flatten before it",
            input?
        ));
        return None;
    };
    Some((Operation::Dense(kernel), vec![units?]))
}

fn convolution(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let filters = fields.required_size("filters");
    let size = fields.required_pair("kernel_size");
    let stride = fields.pair("strides").unwrap_or([1, 1]);
    let dilation = fields.pair("dilation_rate").unwrap_or([1, 1]);
    if fields.size("groups", 1) != 1 {
        fields.problem("groups", "grouped convolutions are not supported; it must be 1");
    }
    let padding = padding(fields);
    let [height, width] = size.unwrap_or([1, 1]);
    let shape = |channels| vec![height, width, channels, filters.unwrap_or(1)];
    let kernel = kernel(fields, shape, input);
    let window = place(fields, "kernel_size", size?, stride, dilation, padding, input?)?;
    let output = vec![window.output[0], window.output[1], filters?];
    Some((Operation::Convolution { kernel, window }, output))
}

fn pooling(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    operation: fn(Window) -> Operation,
) -> Option<Fitted> {
    let size = fields.pair("pool_size").unwrap_or([2, 2]);
    let stride = fields.pair("strides").unwrap_or(size);
    let padding = padding(fields);
    let window = place(fields, "pool_size", size, stride, [1, 1], padding, input?)?;
    let output = vec![window.output[0], window.output[1], input?[2]];
    Some((operation(window), output))
}

fn global_average_pooling(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    if fields.flag("keepdims", false) {
        fields.problem("keepdims", "is not supported; it must be false");
    }
    let &[_, _, channels] = input? else {
        fields.problem_here(not_an_image(input?));
        return None;
    };
    Some((Operation::GlobalAveragePooling, vec![channels]))
}

fn flatten(_: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    Some((Operation::Flatten, vec![input?.iter().product()]))
}

fn dropout(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let rate = fields.number("rate", -1.0);
    if !(0.0..1.0).contains(&rate) {
        fields.problem("rate", "must be given, at least 0 and below 1");
    }
    if fields.value("noise_shape").is_some() {
        fields.problem("noise_shape", "is not supported; it must be null");
    }
    Some((Operation::Dropout { rate }, input?.to_vec()))
}

fn activation_only(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    if fields.value("activation").is_none() {
        fields.problem("activation", "is missing");
    }
    let input = vector_or_image(fields, input?, "Activation")?;
    Some((Operation::Activation, input.to_vec()))
}

/// Without a bound, or bounded by 6; a slope below the threshold is another function.
fn relu(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    for (key, expected) in [("max_value", 6.0), ("negative_slope", 0.0), ("threshold", 0.0)] {
        #[expect(clippy::float_cmp, reason = "only these very numbers are supported")]
        if fields.number(key, expected) != expected {
            fields.problem(key, format!("only {expected} is supported"));
        }
    }
    let input = vector_or_image(fields, input?, "ReLU")?;
    Some((Operation::Activation, input.to_vec()))
}

fn batch_normalization(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    keras_major: u32,
) -> Option<Fitted> {
    let momentum = fields.number("momentum", 0.99);
    if !(0.0..=1.0).contains(&momentum) {
        fields.problem("momentum", "must be from 0 to 1");
    }
    let epsilon = fields.number("epsilon", 1e-3);
    if epsilon <= 0.0 {
        fields.problem("epsilon", "must be positive");
    }
    for key in ["renorm", "synchronized"] {
        if fields.flag(key, false) {
            fields.problem(key, "is not supported; it must be false");
        }
    }
    if fields.value("virtual_batch_size").is_some() {
        fields.problem("virtual_batch_size", "is not supported; it must be null");
    }
    let mut array = |key: &str, value: f64| {
        let channels = input.and_then(|shape| shape.last().copied()).unwrap_or(1);
        options::initializer(fields, key, Initializer::Constant(value), &[channels])
    };
    let gamma = array("gamma_initializer", 1.0);
    let beta = array("beta_initializer", 0.0);
    let moving_mean = array("moving_mean_initializer", 0.0);
    let moving_variance = array("moving_variance_initializer", 1.0);
    let gamma = fields.flag("scale", true).then_some(gamma);
    let beta = fields.flag("center", true).then_some(beta);
    let input = vector_or_image(fields, input?, "BatchNormalization")?;
    check_last_axis(fields, input.len());
    let unbiased = keras_major < 3 && input.len() == 3;
    let normalization =
        Normalization { momentum, epsilon, gamma, beta, moving_mean, moving_variance, unbiased };
    Some((Operation::BatchNormalization(normalization), input.to_vec()))
}

/// The axis counts the batch, may be negative, and may stand in a list.
fn check_last_axis(fields: &mut Fields<'_>, rank: usize) {
    let Some(value) = fields.value("axis") else {
        return;
    };
    let axis = match value.as_array().map(Vec::as_slice) {
        Some([axis]) => axis.as_i64(),
        Some(_) => None,
        None => value.as_i64(),
    };
    let is_last =
        axis == Some(-1) || axis.and_then(|axis| usize::try_from(axis).ok()) == Some(rank);
    if !is_last {
        fields.problem("axis", format!("only the last axis, -1 or {rank}, is supported"));
    }
}

/// Reads `use_bias`, `kernel_initializer` and `bias_initializer`.
fn kernel(
    fields: &mut Fields<'_>,
    shape: impl Fn(usize) -> Vec<usize>,
    input: Option<&[usize]>,
) -> Kernel {
    let glorot =
        Initializer::Scaled { scale: 1.0, fan: Fan::Average, distribution: Distribution::Uniform };
    let shape = shape(input.and_then(|shape| shape.last().copied()).unwrap_or(1));
    let units = shape.last().copied().unwrap_or(1);
    let kernel = options::initializer(fields, "kernel_initializer", glorot, &shape);
    let zeros = Initializer::Constant(0.0);
    let bias = options::initializer(fields, "bias_initializer", zeros, &[units]);
    Kernel { kernel, bias: fields.flag("use_bias", true).then_some(bias) }
}

fn padding(fields: &mut Fields<'_>) -> Padding {
    match fields.text("padding") {
        None => Padding::Valid,
        Some(name) if name.eq_ignore_ascii_case("valid") => Padding::Valid,
        Some(name) if name.eq_ignore_ascii_case("same") => Padding::Same,
        Some(name) => {
            fields.problem("padding", format!("{name:?} is not supported, only valid and same"));
            Padding::Valid
        }
    }
}

/// Places a window on an image; notes a problem under `key` where it does not fit.
fn place(
    fields: &mut Fields<'_>,
    key: &str,
    size: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
    input: &[usize],
) -> Option<Window> {
    let &[height, width, _] = input else {
        fields.problem_here(not_an_image(input));
        return None;
    };
    let window = Window::place(size, stride, dilation, padding, [height, width]);
    if window.is_none() {
        fields.problem(
            key,
            format!(
                "a window of {size:?}, dilated by {dilation:?}, is larger than its input {input:?}"
            ),
        );
    }
    window
}

fn not_an_image(input: &[usize]) -> String {
    format!("needs an input of height, width and channels, but it has shape {input:?}")
}

/// The shapes that a network computes on; others only pass through Flatten and Dropout.
fn vector_or_image<'a>(
    fields: &mut Fields<'_>,
    input: &'a [usize],
    class: &str,
) -> Option<&'a [usize]> {
    if matches!(input.len(), 1 | 3) {
        return Some(input);
    }
    fields.problem_here(format!(
        "{class} on an input of shape {input:?} is not supported; add Flatten before it"
    ));
    None
}
