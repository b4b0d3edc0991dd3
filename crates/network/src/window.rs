//! Arithmetic of sliding windows: kernels of convolutions and pools over one to three axes.
//!
//! Source: Keras's `conv_output_length` and `deconv_output_length`, and TensorFlow's `SAME` padding,
//! where an odd cell of padding comes after.

/// How the borders are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// Windows stay inside.
    Valid,
    /// Enough padding for ⌈input / stride⌉ windows.
    Same,
    /// All padding before: a window sees nothing after its last cell.
    Causal,
}

/// A window over one axis, placed on an input of known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Cells of the window.
    pub(crate) size: usize,
    /// Steps between windows.
    pub(crate) stride: usize,
    /// Steps between the cells of a window.
    pub(crate) dilation: usize,
    /// Padding cells before and after.
    pub(crate) padding: (usize, usize),
    /// Windows along the axis.
    pub(crate) output: usize,
}

/// A window over all spatial axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) axes: Vec<Axis>,
}

impl Axis {
    /// Places a window on `input` cells; `None` where it does not fit.
    pub(crate) fn place(
        size: usize,
        stride: usize,
        dilation: usize,
        padding: Padding,
        input: usize,
    ) -> Option<Self> {
        let reach = (size - 1).checked_mul(dilation)?.checked_add(1)?;
        let (padding, output) = match padding {
            Padding::Valid => ((0, 0), input.checked_sub(reach)? / stride + 1),
            Padding::Same => {
                let output = input.div_ceil(stride);
                let covered = (output - 1).checked_mul(stride)?.checked_add(reach)?;
                let total = covered.saturating_sub(input);
                ((total / 2, total - total / 2), output)
            }
            Padding::Causal => ((reach - 1, 0), (input - 1) / stride + 1),
        };
        Some(Self { size, stride, dilation, padding, output })
    }

    /// Places the window of a transposed convolution: of its full result of
    /// (input − 1) · stride + reach cells, `padding.0` are cut off before, and `output` are taken.
    /// `None` where nothing is left.
    pub(crate) fn place_transposed(
        size: usize,
        stride: usize,
        dilation: usize,
        padding: Padding,
        extra: Option<usize>,
        input: usize,
    ) -> Option<Self> {
        let reach = (size - 1).checked_mul(dilation)?.checked_add(1)?;
        let full = (input - 1).checked_mul(stride)?.checked_add(reach)?;
        let output = match (padding, extra) {
            (Padding::Same, None) => input.checked_mul(stride)?,
            (Padding::Same, Some(extra)) => {
                full.checked_add(extra)?.checked_sub(2 * (reach / 2))?
            }
            (_, None) => input.checked_mul(stride)?.checked_add(reach.saturating_sub(stride))?,
            (_, Some(extra)) => full.checked_add(extra)?,
        };
        let before = match padding {
            Padding::Same => full.saturating_sub(output) / 2,
            Padding::Valid | Padding::Causal => 0,
        };
        (output > 0).then_some(Self { size, stride, dilation, padding: (before, 0), output })
    }

    /// Cells that a window reaches over.
    pub(crate) fn reach(&self) -> usize {
        (self.size - 1) * self.dilation + 1
    }
}

impl Window {
    /// Cells of the window.
    pub(crate) fn cells(&self) -> usize {
        self.axes.iter().map(|axis| axis.size).product()
    }

    /// Windows along each axis.
    pub(crate) fn output(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.output).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(axis: Option<Axis>) -> ((usize, usize), usize) {
        let axis = axis.unwrap();
        (axis.padding, axis.output)
    }

    #[test]
    fn the_odd_cell_of_same_padding_comes_after() {
        assert_eq!(placed(Axis::place(3, 2, 1, Padding::Same, 4)), ((0, 1), 2));
        assert_eq!(placed(Axis::place(3, 2, 1, Padding::Same, 5)), ((1, 1), 3));
    }

    #[test]
    fn valid_windows_stay_inside() {
        assert_eq!(placed(Axis::place(3, 2, 2, Padding::Valid, 9)), ((0, 0), 3));
        assert_eq!(placed(Axis::place(2, 1, 1, Padding::Valid, 2)), ((0, 0), 1));
        assert_eq!(Axis::place(3, 1, 1, Padding::Valid, 2), None);
        assert_eq!(Axis::place(1 << 24, 1, usize::MAX, Padding::Valid, 2), None);
    }

    #[test]
    fn causal_windows_see_nothing_after_them() {
        assert_eq!(placed(Axis::place(3, 1, 2, Padding::Causal, 9)), ((4, 0), 9));
        assert_eq!(placed(Axis::place(2, 2, 1, Padding::Causal, 9)), ((1, 0), 5));
    }

    /// By Keras's `deconv_output_length`, and TensorFlow's padding of the convolution whose
    /// gradient it is.
    #[test]
    fn transposed_windows_undo_the_strides() {
        let place = |size, stride, padding, extra| {
            placed(Axis::place_transposed(size, stride, 1, padding, extra, 4))
        };
        assert_eq!(place(3, 2, Padding::Valid, None), ((0, 0), 9));
        assert_eq!(place(2, 3, Padding::Valid, None), ((0, 0), 12));
        assert_eq!(place(3, 2, Padding::Same, None), ((0, 0), 8));
        assert_eq!(place(4, 2, Padding::Same, None), ((1, 0), 8));
        assert_eq!(place(3, 2, Padding::Same, Some(1)), ((0, 0), 8));
        assert_eq!(place(3, 2, Padding::Valid, Some(1)), ((0, 0), 10));
    }
}
