//! Pools over windows, and over everything.

use super::Fitted;
use super::windows::{Sliding, channels, spatial, with_channels};
use crate::fields::Fields;
use crate::keras::options;
use crate::layer::{MaskRule, Operation, Pool};

/// Reads MaxPooling and AveragePooling.
pub(super) fn pooling(
    fields: &mut Fields<'_>,
    kind: Pool,
    axes: usize,
    input: Option<&[usize]>,
) -> Option<Fitted> {
    let sliding = Sliding::of_pool(fields, axes);
    let window = sliding.place(fields, input?)?;
    let output = sliding.output(&window, sliding.channels(input));
    Some(Fitted::of(Operation::Pooling { kind, window, layout: sliding.layout }, output))
}

/// Reads GlobalMaxPooling and GlobalAveragePooling. The mean over steps leaves out hidden ones.
pub(super) fn global(
    fields: &mut Fields<'_>,
    kind: Pool,
    axes: usize,
    input: Option<&[usize]>,
) -> Option<Fitted> {
    let layout = options::layout(fields);
    let keeps_axes = fields.flag("keepdims", false);
    let input = input?;
    spatial(fields, input, axes, layout)?;
    let kept = if keeps_axes { vec![1; axes] } else { Vec::new() };
    let output = with_channels(kept, channels(input, layout)?, layout);
    let takes_notice = (kind, axes) == (Pool::Average, 1);
    let mask = if takes_notice { MaskRule::Consume } else { MaskRule::Drop };
    Some(Fitted::of(Operation::GlobalPooling { kind, layout, keeps_axes }, output).masked(mask))
}
