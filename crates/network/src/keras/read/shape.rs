//! Layers that move values, and change none.

use serde_json::Value;

use super::windows::{channels, spatial, with_channels};
use super::{Fitted, elements};
use crate::fields::{Fields, SIZE_MAX, size_of};
use crate::keras::options;
use crate::layer::{Layout, Operation, UpSampling};

/// Cells before and after, along one axis.
type Ends = (usize, usize);

/// Reads Flatten.
pub(super) fn flatten(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let layout = options::layout(fields);
    Some(Fitted::of(Operation::Flatten { layout }, vec![elements(input?)?]))
}

/// Reads Reshape, one of whose lengths may be −1: as long as need be.
pub(super) fn reshape(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let key = "target_shape";
    if fields.value(key).is_none() {
        fields.problem(key, "is missing");
    }
    let expected = format!("a list of sizes from 1 to {SIZE_MAX}, of which one may be -1");
    let lengths: Vec<Option<usize>> = fields.read(key, &expected, |value| {
        let items = value.as_array()?;
        let open = items.iter().filter(|item| item.as_i64() == Some(-1)).count();
        let length =
            |item| if item == &Value::from(-1) { Some(None) } else { size_of(item).map(Some) };
        items.iter().map(length).collect::<Option<_>>().filter(|_| open < 2 && !items.is_empty())
    })?;
    let total = elements(input?)?;
    let known: Vec<usize> = lengths.iter().copied().flatten().collect();
    let rest =
        elements(&known).filter(|&known| total.is_multiple_of(known)).map(|known| total / known);
    let has_open = known.len() < lengths.len();
    let Some(rest) = rest.filter(|&rest| has_open || rest == 1) else {
        let shape: Vec<String> =
            lengths.iter().map(|length| length.map_or("-1".into(), |n| n.to_string())).collect();
        let text = format!("[{}] does not hold the input's {total} elements", shape.join(", "));
        fields.problem(key, text);
        return None;
    };
    let output = lengths.into_iter().map(|length| length.unwrap_or(rest)).collect();
    Some(Fitted::of(Operation::Reshape, output))
}

/// Reads Permute, whose axes are counted from 1.
pub(super) fn permute(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    if fields.value("dims").is_none() {
        fields.problem("dims", "is missing");
    }
    let dims: Vec<usize> = fields.read("dims", "a list of axes, counted from 1", |value| {
        value.as_array()?.iter().map(size_of).collect()
    })?;
    let input = input?;
    let mut sorted = dims.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(1..=input.len()) {
        let text = format!("{dims:?} must name each axis of its input {input:?} once, from 1");
        fields.problem("dims", text);
        return None;
    }
    let axes: Vec<usize> = dims.iter().map(|axis| axis - 1).collect();
    let output = axes.iter().map(|&axis| input[axis]).collect();
    Some(Fitted::of(Operation::Permute { axes }, output))
}

/// Reads RepeatVector.
pub(super) fn repeat_vector(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let count = fields.required_size("n");
    let input = input?;
    let [width] = *input else {
        fields.problem_here(format!("needs a vector as input, but it has shape {input:?}"));
        return None;
    };
    let count = count?;
    Some(Fitted::of(Operation::Repeat { count }, vec![count, width]))
}

/// Reads ZeroPadding.
pub(super) fn zero_padding(
    fields: &mut Fields<'_>,
    axes: usize,
    input: Option<&[usize]>,
) -> Option<Fitted> {
    let layout = options::layout(fields);
    let ends = ends(fields, "padding", axes, 1)?;
    let input = input?;
    let spatial = spatial(fields, input, axes, layout)?;
    let lengths = spatial.iter().zip(&ends).map(|(size, ends)| size + ends.0 + ends.1);
    let output = with_channels(lengths.collect(), channels(input, layout)?, layout);
    Some(Fitted::of(Operation::Pad { cells: of_all_axes(ends, layout) }, output))
}

/// Reads Cropping.
pub(super) fn cropping(
    fields: &mut Fields<'_>,
    axes: usize,
    input: Option<&[usize]>,
) -> Option<Fitted> {
    let layout = options::layout(fields);
    let default = usize::from(axes != 2);
    let ends = ends(fields, "cropping", axes, default)?;
    let input = input?;
    let spatial = spatial(fields, input, axes, layout)?;
    let lengths: Option<Vec<usize>> = spatial
        .iter()
        .zip(&ends)
        .map(|(size, ends)| size.checked_sub(ends.0 + ends.1).filter(|&left| left > 0))
        .collect();
    let Some(lengths) = lengths else {
        let text = format!("{ends:?} leaves nothing of its input {input:?}");
        fields.problem("cropping", text);
        return None;
    };
    let output = with_channels(lengths, channels(input, layout)?, layout);
    Some(Fitted::of(Operation::Crop { cells: of_all_axes(ends, layout) }, output))
}

/// Reads UpSampling.
pub(super) fn up_sampling(
    fields: &mut Fields<'_>,
    axes: usize,
    input: Option<&[usize]>,
) -> Option<Fitted> {
    let layout = options::layout(fields);
    let factors = match fields.value("size") {
        Some(_) => fields.sizes("size", axes),
        None => Some(vec![2; axes]),
    };
    let is_bilinear = match fields.text("interpolation") {
        None | Some("nearest") => false,
        Some("bilinear") if axes == 2 => true,
        Some(name) => {
            let text = format!("{name:?} is not supported, only nearest and, in 2D, bilinear");
            fields.problem("interpolation", text);
            false
        }
    };
    let (input, factors) = (input?, factors?);
    let spatial = spatial(fields, input, axes, layout)?;
    let lengths = spatial.iter().zip(&factors).map(|(size, factor)| size * factor).collect();
    let output = with_channels(lengths, channels(input, layout)?, layout);
    Some(Fitted::of(Operation::UpSampling(UpSampling { factors, layout, is_bilinear }), output))
}

/// Reads cells at both ends of each axis: one number for all; one for each axis; or a pair for each
/// axis, which stands by itself where there is one axis.
fn ends(fields: &mut Fields<'_>, key: &str, axes: usize, default: usize) -> Option<Vec<Ends>> {
    let pair = |value: &Value| match value.as_array().map(Vec::as_slice) {
        Some([before, after]) => Some((cells(before)?, cells(after)?)),
        Some(_) => None,
        None => Some((cells(value)?, cells(value)?)),
    };
    let expected = match axes {
        1 => "cells at both ends, or [before, after]".to_owned(),
        _ => format!("cells at both ends, or a list of {axes} of such or of [before, after]"),
    };
    if fields.value(key).is_none() {
        return Some(vec![(default, default); axes]);
    }
    fields.read(key, &expected, |value| match value.as_array() {
        Some(_) if axes == 1 => Some(vec![pair(value)?]),
        Some(items) if items.len() == axes => items.iter().map(pair).collect(),
        Some(_) => None,
        None => Some(vec![pair(value)?; axes]),
    })
}

/// A length as JSON has it, or 0.
fn cells(value: &Value) -> Option<usize> {
    if value.as_u64() == Some(0) { Some(0) } else { size_of(value) }
}

/// The channels have no cells at their ends.
fn of_all_axes(mut ends: Vec<Ends>, layout: Layout) -> Vec<Ends> {
    match layout {
        Layout::ChannelsLast => ends.push((0, 0)),
        Layout::ChannelsFirst => ends.insert(0, (0, 0)),
    }
    ends
}
