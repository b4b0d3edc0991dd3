//! Values as volumes of three spatial axes: what the windows of convolutions and pools slide over.
//! Axes that a value or a window lacks are of one cell, in front of those that it has.

use burn::tensor::Tensor;

use crate::layer::Layout;
use crate::value::Value;
use crate::window::{Axis, Window};

/// Spatial axes of a volume.
const AXES: usize = 3;

/// A window's axis over an axis of one cell: changes nothing.
const ONE_CELL: Axis = Axis { size: 1, stride: 1, dilation: 1, padding: (0, 0), output: 1 };

/// (batch, channels, depth, height, width). A view: with channels last its memory stays as it was.
pub(crate) fn volume(x: Value, layout: Layout) -> Tensor<5> {
    let batch = x.batch();
    let (channels, cells) = split(x.shape(), layout);
    let [depth, height, width] = three(cells, 1);
    let rows = x.rows();
    match layout {
        Layout::ChannelsLast => {
            rows.reshape([batch, depth, height, width, channels]).permute([0, 4, 1, 2, 3])
        }
        Layout::ChannelsFirst => rows.reshape([batch, channels, depth, height, width]),
    }
}

/// The value of a volume of which this many axes, the last ones, are the value's.
pub(crate) fn value(volume: Tensor<5>, layout: Layout, axes: usize) -> Value {
    let [_, channels, cells @ ..] = volume.dims();
    let mut shape = cells[AXES - axes..].to_vec();
    match layout {
        Layout::ChannelsLast => {
            shape.push(channels);
            Value::of(volume.permute([0, 2, 3, 4, 1])).reshape(shape)
        }
        Layout::ChannelsFirst => {
            shape.insert(0, channels);
            Value::of(volume).reshape(shape)
        }
    }
}

/// A window's axes over those of a volume.
pub(crate) fn window_axes(window: &Window) -> [Axis; AXES] {
    three(&window.axes, ONE_CELL)
}

/// A window over one or two axes of an image with its channels last, as kernels take it, and the
/// channels.
pub(crate) fn planar(
    window: &[Axis],
    image: &[usize],
) -> Option<([arrowhop_kernels::Axis; 2], usize)> {
    let of = |axis: &Axis, input: usize| arrowhop_kernels::Axis {
        input,
        size: axis.size,
        stride: axis.stride,
        dilation: axis.dilation,
        padding: axis.padding.0,
        output: axis.output,
    };
    match (window, image) {
        ([height, width], &[rows, columns, channels]) => {
            Some(([of(height, rows), of(width, columns)], channels))
        }
        ([width], &[columns, channels]) => Some(([of(&ONE_CELL, 1), of(width, columns)], channels)),
        _ => None,
    }
}

/// Whether a window's axis leaves its cells as they are.
pub(crate) fn changes_nothing(axis: &Axis) -> bool {
    (axis.size, axis.stride, axis.padding) == (1, 1, (0, 0))
}

/// Channels and cells of a value's shape.
pub(crate) fn split(shape: &[usize], layout: Layout) -> (usize, &[usize]) {
    let parts = match layout {
        Layout::ChannelsLast => shape.split_last(),
        Layout::ChannelsFirst => shape.split_first(),
    };
    let (channels, cells) = parts.expect("a value with channels has an axis for them");
    (*channels, cells)
}

/// One for each axis of a volume; `missing` for those in front.
pub(crate) fn three<T: Copy>(given: &[T], missing: T) -> [T; AXES] {
    let mut all = [missing; AXES];
    all[AXES - given.len()..].copy_from_slice(given);
    all
}
