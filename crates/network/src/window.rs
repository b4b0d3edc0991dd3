//! Arithmetic of sliding windows: kernels of convolutions and pools over height and width.
//!
//! Source: Keras's `conv_output_length` and TensorFlow's `SAME` padding, where an odd cell of
//! padding comes after, at the bottom and at the right.

/// How the borders are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// Windows stay inside.
    Valid,
    /// Enough padding for ⌈input / stride⌉ windows.
    Same,
}

/// A window over height and width, placed on an input of known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// Cells of the window.
    pub(crate) size: [usize; 2],
    /// Steps between windows.
    pub(crate) stride: [usize; 2],
    /// Steps between the cells of a window.
    pub(crate) dilation: [usize; 2],
    /// Padding cells before and after.
    pub(crate) padding: [(usize, usize); 2],
    /// Windows along each axis.
    pub(crate) output: [usize; 2],
}

impl Window {
    /// Places a window on an input of `input` cells; `None` where it does not fit.
    pub(crate) fn place(
        size: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
        padding: Padding,
        input: [usize; 2],
    ) -> Option<Self> {
        let mut window = Self { size, stride, dilation, padding: [(0, 0); 2], output: [0; 2] };
        for axis in 0..2 {
            let reach = (size[axis] - 1) * dilation[axis] + 1;
            match padding {
                Padding::Valid => {
                    window.output[axis] = input[axis].checked_sub(reach)? / stride[axis] + 1;
                }
                Padding::Same => {
                    let output = input[axis].div_ceil(stride[axis]);
                    let total = ((output - 1) * stride[axis] + reach).saturating_sub(input[axis]);
                    window.output[axis] = output;
                    window.padding[axis] = (total / 2, total - total / 2);
                }
            }
        }
        Some(window)
    }

    /// Cells of the window.
    pub(crate) fn cells(&self) -> usize {
        self.size[0] * self.size[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_cell_of_same_padding_comes_after() {
        let window = Window::place([3, 3], [2, 2], [1, 1], Padding::Same, [4, 5]).unwrap();
        assert_eq!(window.output, [2, 3]);
        assert_eq!(window.padding, [(0, 1), (1, 1)]);
    }

    #[test]
    fn valid_windows_stay_inside() {
        let window = Window::place([3, 2], [2, 1], [2, 1], Padding::Valid, [9, 2]).unwrap();
        assert_eq!((window.output, window.padding), ([3, 1], [(0, 0); 2]));
        assert_eq!(Window::place([3, 3], [1, 1], [1, 1], Padding::Valid, [2, 9]), None);
    }
}
