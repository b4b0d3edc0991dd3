//! Convolutions over one to three axes.

use serde_json::Value;

use super::arrays::{GLOROT_UNIFORM, bias, kernel_and_bias, weight};
use super::windows::Sliding;
use super::{Context, Fitted, macs};
use crate::activation::Activation;
use crate::fields::{Fields, SIZE_MAX};
use crate::keras::options;
use crate::layer::{Convolution, ConvolutionKind, Operation, Shape, Weight};
use crate::window::Window;

/// Reads Conv1D, Conv2D and Conv3D.
pub(super) fn plain(
    fields: &mut Fields<'_>,
    axes: usize,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let filters = fields.required_size("filters");
    let sliding = Sliding::of_kernel(fields, axes, axes == 1);
    let groups = groups(fields, filters, input.map(|_| sliding.channels(input)));
    let activation = activation(fields, context);
    let mut shape = sliding.kernel();
    shape.extend([(sliding.channels(input) / groups).max(1), filters.unwrap_or(1)]);
    let cells = shape.clone();
    let weights = kernel_and_bias(fields, context, shape);
    let window = sliding.place(fields, input?)?;
    let macs = macs(cells.into_iter().chain(window.output()));
    let output = sliding.output(&window, filters?);
    Some(fitted(ConvolutionKind::Plain { groups }, &sliding, window, output, weights, macs))
        .map(|fitted| fitted.activated(activation))
}

/// Reads DepthwiseConv1D and DepthwiseConv2D.
pub(super) fn depthwise(
    fields: &mut Fields<'_>,
    axes: usize,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let multiplier = fields.size("depth_multiplier", 1);
    let sliding = Sliding::of_kernel(fields, axes, false);
    refuse_groups(fields);
    let activation = activation(fields, context);
    let channels = sliding.channels(input);
    let kernel = depthwise_kernel(fields, context, &sliding, channels, multiplier);
    let made = channels.saturating_mul(multiplier);
    let cells = kernel.shape.clone();
    let weights = [kernel].into_iter().chain(bias(fields, context, vec![made])).collect();
    let window = sliding.place(fields, input?)?;
    let macs = macs(cells.into_iter().chain(window.output()));
    let output = sliding.output(&window, made);
    Some(fitted(ConvolutionKind::Depthwise, &sliding, window, output, weights, macs))
        .map(|fitted| fitted.activated(activation))
}

/// Reads SeparableConv1D and SeparableConv2D.
pub(super) fn separable(
    fields: &mut Fields<'_>,
    axes: usize,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let filters = fields.required_size("filters");
    let multiplier = fields.size("depth_multiplier", 1);
    let sliding = Sliding::of_kernel(fields, axes, axes == 1);
    refuse_groups(fields);
    let activation = activation(fields, context);
    let channels = sliding.channels(input);
    let depthwise = depthwise_kernel(fields, context, &sliding, channels, multiplier);
    let mut shape = vec![1; axes];
    shape.extend([channels.saturating_mul(multiplier), filters.unwrap_or(1)]);
    let pointwise = weight(fields, context, "pointwise_kernel", "pointwise", shape, GLOROT_UNIFORM);
    let cells = [depthwise.shape.clone(), pointwise.shape.clone()];
    let bias = bias(fields, context, vec![filters.unwrap_or(1)]);
    let weights = [depthwise, pointwise].into_iter().chain(bias).collect();
    let window = sliding.place(fields, input?)?;
    let [depthwise, pointwise] = cells.map(|cells| macs(cells.into_iter().chain(window.output())));
    let macs = depthwise.saturating_add(pointwise);
    let output = sliding.output(&window, filters?);
    Some(fitted(ConvolutionKind::Separable, &sliding, window, output, weights, macs))
        .map(|fitted| fitted.activated(activation))
}

/// Reads Conv1DTranspose, Conv2DTranspose and Conv3DTranspose.
pub(super) fn transposed(
    fields: &mut Fields<'_>,
    axes: usize,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let filters = fields.required_size("filters");
    let sliding = Sliding::of_kernel(fields, axes, false);
    let extra = output_padding(fields, &sliding.strides);
    refuse_groups(fields);
    let activation = activation(fields, context);
    let (units, channels) = (filters.unwrap_or(1), sliding.channels(input));
    let mut shape = sliding.kernel();
    shape.extend([units, channels]);
    let kernel = weight(fields, context, "kernel", "kernel", shape, GLOROT_UNIFORM);
    let cells = kernel.shape.clone();
    let weights = [kernel].into_iter().chain(bias(fields, context, vec![units])).collect();
    let input = input?;
    let window = sliding.place_transposed(fields, extra.as_deref(), input)?;
    // Each cell of the input is multiplied by the whole kernel.
    let macs = macs(cells.into_iter().chain([input.iter().product::<usize>() / channels]));
    let output = sliding.output(&window, filters?);
    Some(fitted(ConvolutionKind::Transposed, &sliding, window, output, weights, macs))
        .map(|fitted| fitted.activated(activation))
}

fn fitted(
    kind: ConvolutionKind,
    sliding: &Sliding,
    window: Window,
    output: Shape,
    weights: Vec<Weight>,
    macs: u64,
) -> Fitted {
    let has_bias = weights.last().is_some_and(|weight| weight.name == "bias");
    let convolution = Convolution { kind, window, layout: sliding.layout, has_bias };
    Fitted::of(Operation::Convolution(convolution), output).weighted(weights, macs)
}

fn activation(fields: &mut Fields<'_>, context: &Context) -> Activation {
    options::activation(fields, "activation", Activation::Linear, context.keras_major)
}

fn depthwise_kernel(
    fields: &mut Fields<'_>,
    context: &Context,
    sliding: &Sliding,
    channels: usize,
    multiplier: usize,
) -> Weight {
    let mut shape = sliding.kernel();
    shape.extend([channels, multiplier]);
    weight(fields, context, "depthwise_kernel", "depthwise", shape, GLOROT_UNIFORM)
}

/// Reads the number of groups, which must divide the channels that go in and those that come out.
fn groups(fields: &mut Fields<'_>, filters: Option<usize>, channels: Option<usize>) -> usize {
    let groups = fields.size("groups", 1);
    let ends = [(filters, "filters"), (channels, "channels of its input")];
    for (count, what) in ends {
        if let Some(count) = count
            && !count.is_multiple_of(groups)
        {
            fields.problem("groups", format!("{groups} does not divide the {count} {what}"));
        }
    }
    groups
}

/// Other convolutions than the plain one write the option, but do not have it.
fn refuse_groups(fields: &mut Fields<'_>) {
    if fields.size("groups", 1) != 1 {
        fields.problem("groups", "is not supported for this class; it must be 1");
    }
}

/// Reads by how much the output is longer than need be along each axis.
fn output_padding(fields: &mut Fields<'_>, strides: &[usize]) -> Option<Vec<usize>> {
    let cells = |value: &Value| {
        value.as_u64().and_then(|cells| usize::try_from(cells).ok()).filter(|&n| n <= SIZE_MAX)
    };
    let axes = strides.len();
    let extra: Vec<usize> = fields.read(
        "output_padding",
        "a whole number, or one for each axis",
        |value| match value.as_array() {
            Some(items) if items.len() == axes => items.iter().map(cells).collect(),
            Some(_) => None,
            None => Some(vec![cells(value)?; axes]),
        },
    )?;
    if extra.iter().zip(strides).any(|(extra, stride)| extra >= stride) {
        let text = format!("{extra:?} must be less than the strides {strides:?}");
        fields.problem("output_padding", text);
        return None;
    }
    Some(extra)
}
