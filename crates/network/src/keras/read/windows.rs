//! The options of sliding windows, and their place on an input.

use super::elements;
use crate::fields::Fields;
use crate::keras::{ELEMENTS_MAX, options};
use crate::layer::{Layout, Shape};
use crate::window::{Axis, Padding, Window};

/// A window's options.
pub(super) struct Sliding {
    /// The option that sizes it.
    key: &'static str,
    /// Cells along each axis; `None` where it has a problem.
    pub(super) sizes: Option<Vec<usize>>,
    pub(super) strides: Vec<usize>,
    dilations: Vec<usize>,
    padding: Padding,
    pub(super) layout: Layout,
}

impl Sliding {
    /// Reads a convolution's window over this many axes.
    pub(super) fn of_kernel(fields: &mut Fields<'_>, axes: usize, allows_causal: bool) -> Self {
        Self {
            key: "kernel_size",
            sizes: fields.required_sizes("kernel_size", axes),
            strides: fields.sizes("strides", axes).unwrap_or_else(|| vec![1; axes]),
            dilations: fields.sizes("dilation_rate", axes).unwrap_or_else(|| vec![1; axes]),
            padding: options::padding(fields, allows_causal),
            layout: options::layout(fields),
        }
    }

    /// Reads a pool's window over this many axes; its strides are its sizes unless it says else.
    pub(super) fn of_pool(fields: &mut Fields<'_>, axes: usize) -> Self {
        let sizes = match fields.value("pool_size") {
            Some(_) => fields.sizes("pool_size", axes),
            None => Some(vec![2; axes]),
        };
        let strides = fields.sizes("strides", axes);
        Self {
            key: "pool_size",
            strides: strides.or_else(|| sizes.clone()).unwrap_or_else(|| vec![1; axes]),
            sizes,
            dilations: vec![1; axes],
            padding: options::padding(fields, false),
            layout: options::layout(fields),
        }
    }

    /// Cells of the window, for the shape of a kernel; 1 along each axis while they are unknown.
    pub(super) fn kernel(&self) -> Vec<usize> {
        self.sizes.clone().unwrap_or_else(|| vec![1; self.strides.len()])
    }

    /// Channels of the input; 1 while they are unknown.
    pub(super) fn channels(&self, input: Option<&[usize]>) -> usize {
        input.and_then(|input| channels(input, self.layout)).unwrap_or(1)
    }

    /// Places the window; notes a problem where it does not fit.
    pub(super) fn place(&self, fields: &mut Fields<'_>, input: &[usize]) -> Option<Window> {
        let spatial = spatial(fields, input, self.strides.len(), self.layout)?;
        let (sizes, padding) = (self.sizes.as_ref()?, self.padding);
        let places = (0..sizes.len()).map(|i| {
            Axis::place(sizes[i], self.strides[i], self.dilations[i], padding, spatial[i])
        });
        let Some(axes) = places.collect::<Option<Vec<Axis>>>() else {
            let text = format!(
                "a window of {sizes:?}, dilated by {:?}, is larger than its input {input:?}",
                self.dilations
            );
            fields.problem(self.key, text);
            return None;
        };
        let padded: Vec<usize> = axes
            .iter()
            .zip(spatial)
            .map(|(axis, size)| size + axis.padding.0 + axis.padding.1)
            .collect();
        self.check_size(fields, &padded)?;
        Some(Window { axes })
    }

    /// Places the window of a transposed convolution, whose output is longer by `extra` than need be;
    /// notes a problem where nothing is left of it.
    pub(super) fn place_transposed(
        &self,
        fields: &mut Fields<'_>,
        extra: Option<&[usize]>,
        input: &[usize],
    ) -> Option<Window> {
        let spatial = spatial(fields, input, self.strides.len(), self.layout)?;
        let (sizes, padding) = (self.sizes.as_ref()?, self.padding);
        let places = (0..sizes.len()).map(|i| {
            let extra = extra.map(|extra| extra[i]);
            let (stride, dilation) = (self.strides[i], self.dilations[i]);
            Axis::place_transposed(sizes[i], stride, dilation, padding, extra, spatial[i])
        });
        let Some(axes) = places.collect::<Option<Vec<Axis>>>() else {
            fields.problem(self.key, format!("leaves nothing of its input {input:?}"));
            return None;
        };
        let full = axes.iter().zip(spatial);
        let full: Vec<usize> =
            full.map(|(axis, size)| (size - 1) * axis.stride + axis.reach()).collect();
        self.check_size(fields, &full)?;
        Some(Window { axes })
    }

    /// The shape of as many channels at each place of the window.
    pub(super) fn output(&self, window: &Window, channels: usize) -> Shape {
        with_channels(window.output(), channels, self.layout)
    }

    /// Neither a window's cells nor the padded image may be too many.
    fn check_size(&self, fields: &mut Fields<'_>, image: &[usize]) -> Option<()> {
        if elements(image).is_some() && elements(self.sizes.as_ref()?).is_some() {
            return Some(());
        }
        let text = format!("reaches over {image:?}, more than {ELEMENTS_MAX} cells");
        fields.problem(self.key, text);
        None
    }
}

/// Channels of an input.
pub(super) fn channels(input: &[usize], layout: Layout) -> Option<usize> {
    match layout {
        Layout::ChannelsLast => input.last().copied(),
        Layout::ChannelsFirst => input.first().copied(),
    }
}

/// The spatial axes of an input; notes a problem where they are not as many as expected.
pub(super) fn spatial<'i>(
    fields: &mut Fields<'_>,
    input: &'i [usize],
    axes: usize,
    layout: Layout,
) -> Option<&'i [usize]> {
    if input.len() != axes + 1 {
        let name = ["steps", "height and width", "depth, height and width"][axes - 1];
        let text = format!("needs an input of {name}, and channels, but it has shape {input:?}");
        fields.problem_here(text);
        return None;
    }
    Some(match layout {
        Layout::ChannelsLast => &input[..axes],
        Layout::ChannelsFirst => &input[1..],
    })
}

/// A shape of these spatial axes.
pub(super) fn with_channels(mut spatial: Vec<usize>, channels: usize, layout: Layout) -> Shape {
    match layout {
        Layout::ChannelsLast => spatial.push(channels),
        Layout::ChannelsFirst => spatial.insert(0, channels),
    }
    spatial
}
