//! The largest of each window, channels last, and where it was.

use crate::frame::Axis;
use crate::isa::{Isa, Job};
use crate::lanes::Lanes;

/// Windows over two axes, each channel for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Height and width.
    pub axes: [Axis; 2],
    /// Of the images and of the results.
    pub channels: usize,
}

impl Pooling {
    fn image(&self) -> usize {
        self.axes[0].input * self.axes[1].input * self.channels
    }

    fn result(&self) -> usize {
        self.axes[0].output * self.axes[1].output * self.channels
    }
}

/// `result` = the largest number of each window, and `places` = its place in its image; of equal ones
/// the first. What is no number is the largest.
///
/// # Panics
/// When the sizes do not go together, or the CPU lacks the instructions.
pub fn pool_max(
    isa: Isa,
    pooling: &Pooling,
    images: &[f32],
    result: &mut [f32],
    places: &mut [u32],
) {
    let batch = images.len() / pooling.image().max(1);
    assert_eq!(images.len(), batch * pooling.image(), "whole images");
    assert_eq!(result.len(), batch * pooling.result(), "a result for each image");
    assert_eq!(places.len(), result.len(), "a place for each result");
    assert!(u32::try_from(pooling.image()).is_ok(), "places in an image are below 2^32");
    isa.run(PoolMax { pooling, images, result, places });
}

/// `gradient`, of the images, from that of the result and the places where its numbers are from.
///
/// # Panics
/// When the sizes do not go together.
pub fn pool_max_gradient(
    pooling: &Pooling,
    of_result: &[f32],
    places: &[u32],
    gradient: &mut [f32],
) {
    let batch = gradient.len() / pooling.image().max(1);
    assert_eq!(gradient.len(), batch * pooling.image(), "whole images");
    assert_eq!(of_result.len(), batch * pooling.result(), "a gradient for each result");
    assert_eq!(places.len(), of_result.len(), "a place for each result");
    gradient.fill(0.0);
    let results =
        of_result.chunks_exact(pooling.result()).zip(places.chunks_exact(pooling.result()));
    for (gradient, (slopes, places)) in gradient.chunks_exact_mut(pooling.image()).zip(results) {
        for (slope, place) in slopes.iter().zip(places) {
            gradient[*place as usize] += slope;
        }
    }
}

struct PoolMax<'a> {
    pooling: &'a Pooling,
    images: &'a [f32],
    result: &'a mut [f32],
    places: &'a mut [u32],
}

impl Job for PoolMax<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { pooling, images, result, places } = self;
        let Pooling { axes: [height, width], channels } = *pooling;
        let made = result.chunks_exact_mut(pooling.result());
        let made = made.zip(places.chunks_exact_mut(pooling.result()));
        for (image, (result, places)) in images.chunks_exact(pooling.image()).zip(made) {
            let windows = result.chunks_exact_mut(channels).zip(places.chunks_exact_mut(channels));
            for (number, (largest, places)) in windows.enumerate() {
                let (y, x) = (number / width.output, number % width.output);
                let mut is_first = true;
                for row in inside(&height, y) {
                    for column in inside(&width, x) {
                        let at = (row * width.input + column) * channels;
                        let cell = &image[at..at + channels];
                        take_larger(cell, at, is_first, largest, places);
                        is_first = false;
                    }
                }
            }
        }
    }
}

/// The cells of a window that are inside the image.
fn inside(axis: &Axis, window: usize) -> impl Iterator<Item = usize> + use<> {
    let Axis { input, size, stride, dilation, padding, .. } = *axis;
    (0..size)
        .filter_map(move |cell| (window * stride + cell * dilation).checked_sub(padding))
        .take_while(move |cell| *cell < input)
}

/// Takes over what is larger in a cell, channel by channel.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "places are below 2^32, as was checked")]
fn take_larger(cell: &[f32], at: usize, is_first: bool, largest: &mut [f32], places: &mut [u32]) {
    let at = at as u32;
    for (channel, ((value, largest), place)) in (at..).zip(cell.iter().zip(largest).zip(places)) {
        let takes = is_first | (*value > *largest) | value.is_nan();
        *largest = if takes { *value } else { *largest };
        *place = if takes { channel } else { *place };
    }
}
