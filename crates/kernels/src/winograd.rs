//! Convolutions of 3×3 with fewer multiplications: four results from sixteen instead of thirty-six.
//!
//! Source: A. Lavin, S. Gray, *Fast Algorithms for Convolutional Neural Networks*, CVPR 2016, F(2×2, 3×3):
//!
//! ```text
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A      d: 4×4 pixels, g: the kernel, Y: 2×2 results
//!
//!      1  0 −1  0         1  0  0          1  0
//! Bᵀ = 0  1  1  0    G =  ½  ½  ½     A =  1  1
//!      0 −1  1  0         ½ −½  ½          1 −1
//!      0  1  0 −1         0  0  1          0 −1
//! ```
//!
//! Over channels ⊙ becomes a product of matrices for each of the sixteen places. The gradient by the images
//! is such a convolution with the kernel turned around; that by the kernel is the same formula read
//! backwards: Gᵀ [ Σ (Bᵀ d B) (A dY Aᵀ) ] G, summed up over tiles and images.
//!
//! Some tiles at a time, so that what they are made into is still near when it is multiplied.

mod transform;

use crate::convolution::Convolution;
use crate::frame::{Axis, Frame};
use crate::isa::{Isa, Job};
use crate::lanes::Lanes;
use crate::pack::{Scratch, room};
use crate::product::{DEPTH, Finish};
use crate::tile::{Last, Runs, Target, panel, tile};
use transform::{gather_kernel, store_tile, transform_images, transform_kernel, transform_slopes};

/// Places of a transformed tile.
const PLACES: usize = 16;
/// Cells of a kernel.
const CELLS: usize = 9;
/// Channels come in whole vectors of every set of instructions.
const CHANNELS: usize = 16;
/// Tiles at a time at least: a multiple of every tile's rows.
const TILES: usize = 48;

/// From place to place, for so many elements of each: a cache line more, or all places would lie in the
/// same few sets of the cache.
const fn apart(elements: usize) -> usize {
    elements + CHANNELS
}

/// Whether a convolution is one that this makes faster.
pub(crate) fn applies(convolution: &Convolution) -> bool {
    let Convolution { axes, inputs, outputs } = *convolution;
    let is_whole = |channels: usize| channels >= 2 * CHANNELS && channels.is_multiple_of(CHANNELS);
    let fits = |axis: &Axis| {
        (axis.size, axis.stride, axis.dilation) == (3, 1, 1) && axis.padding <= 2 && axis.output > 2
    };
    axes.iter().all(fits) && is_whole(inputs) && is_whole(outputs)
}

/// Where tiles lie.
struct Grid {
    frame: Frame,
    batch: usize,
    /// Tiles of an image, down and across.
    tiles: [usize; 2],
    /// Results of an image, down and across.
    results: [usize; 2],
    /// Channels of the images and of the results.
    inputs: usize,
    outputs: usize,
}

impl Grid {
    /// Of windows whose first one begins so many cells before the image.
    fn new(
        image: [usize; 2],
        before: [usize; 2],
        results: [usize; 2],
        [inputs, outputs]: [usize; 2],
        batch: usize,
    ) -> Self {
        let tiles = results.map(|results| results.div_ceil(2));
        let [height, width] = tiles.map(|tiles| 2 * tiles + 2);
        let frame = Frame { height, width, before, image, channels: inputs };
        Self { frame, batch, tiles, results, inputs, outputs }
    }

    /// Of the convolution of these images.
    fn of(convolution: &Convolution, images: &[f32]) -> Self {
        let batch = images.len() / convolution.image();
        let Convolution { axes, inputs, outputs } = *convolution;
        let [image, before, results] = [
            axes.map(|axis| axis.input),
            axes.map(|axis| axis.padding),
            axes.map(|axis| axis.output),
        ];
        Self::new(image, before, results, [inputs, outputs], batch)
    }

    /// The images' gradient as results of windows on the result's gradient.
    fn turned(convolution: &Convolution, of_result: &[f32]) -> Self {
        let batch = of_result.len() / convolution.result();
        let Convolution { axes, inputs, outputs } = *convolution;
        let [image, before, results] = [
            axes.map(|axis| axis.output),
            axes.map(|axis| 2 - axis.padding),
            axes.map(|axis| axis.input),
        ];
        Self::new(image, before, results, [outputs, inputs], batch)
    }

    fn tiles(&self) -> usize {
        self.batch * self.tiles[0] * self.tiles[1]
    }

    /// Tiles at a time: as much memory as the transformed kernel takes, which is read once for them.
    fn at_once(&self) -> usize {
        let balanced = self.inputs * self.outputs / (self.inputs + self.outputs);
        balanced.next_multiple_of(TILES).min(self.tiles().next_multiple_of(TILES))
    }

    /// A tile's image, and its first row and column there.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let [down, across] = self.tiles;
        let within = tile % (down * across);
        (tile / (down * across), 2 * (within / across), 2 * (within % across))
    }
}

/// [`crate::slide`] for a convolution to which this [`applies`].
pub(crate) fn slide(
    isa: Isa,
    convolution: &Convolution,
    images: &[f32],
    kernel: &[f32],
    finish: Finish<'_>,
    result: &mut [f32],
    scratch: &mut Scratch,
) {
    let grid = Grid::of(convolution, images);
    isa.run(Slide { grid: &grid, images, kernel, is_turned: false, finish, result, scratch });
}

/// [`crate::input_gradient`] for a convolution to which this [`applies`].
pub(crate) fn input_gradient(
    isa: Isa,
    convolution: &Convolution,
    of_result: &[f32],
    kernel: &[f32],
    gradient: &mut [f32],
    scratch: &mut Scratch,
) {
    let grid = Grid::turned(convolution, of_result);
    let (images, finish, result) = (of_result, Finish::default(), gradient);
    isa.run(Slide { grid: &grid, images, kernel, is_turned: true, finish, result, scratch });
}

/// [`crate::kernel_gradient`] for a convolution to which this [`applies`].
pub(crate) fn kernel_gradient(
    isa: Isa,
    convolution: &Convolution,
    images: &[f32],
    of_result: &[f32],
    gradient: &mut [f32],
    scratch: &mut Scratch,
) {
    let grid = Grid::of(convolution, images);
    isa.run(SumTiles { grid: &grid, images, of_result, gradient, scratch });
}

struct Slide<'a> {
    grid: &'a Grid,
    images: &'a [f32],
    kernel: &'a [f32],
    /// The kernel is that of the convolution whose gradient this is.
    is_turned: bool,
    finish: Finish<'a>,
    result: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl Job for Slide<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { grid, images, kernel, is_turned, finish, result, scratch } = self;
        let Scratch { panels, padded, tiles, products, cells, .. } = scratch;
        let (inputs, outputs) = (grid.inputs, grid.outputs);
        let width = panel::<L>();
        let of_place = apart(inputs * outputs.next_multiple_of(width));
        let panels = room(panels, PLACES * of_place);
        // SAFETY: the caller has the instructions.
        unsafe { transform_kernel::<L>(grid, kernel, is_turned, panels, cells) };
        let mut framed = Framed { grid, images, padded, shown: None };
        let at_once = grid.at_once();
        let tiles = room(tiles, PLACES * apart(at_once * inputs));
        let products = room(products, PLACES * apart(at_once * outputs));
        for first in (0..grid.tiles()).step_by(at_once) {
            let count = at_once.min(grid.tiles() - first);
            // SAFETY: the caller has the instructions.
            unsafe { transform_images::<L>(&mut framed, first, count, tiles) };
            for place in 0..PLACES {
                let left = &tiles[place * apart(count * inputs)..][..count * inputs];
                let right = &panels[place * of_place..][..of_place];
                let made = &mut products[place * apart(count * outputs)..][..count * outputs];
                // SAFETY: as above.
                unsafe { multiply::<L>(left, right, made, inputs, outputs) };
            }
            for number in 0..count {
                // SAFETY: as above.
                unsafe {
                    store_tile::<L>(grid, first + number, number, count, products, finish, result)
                };
            }
        }
    }
}

struct SumTiles<'a> {
    grid: &'a Grid,
    images: &'a [f32],
    of_result: &'a [f32],
    gradient: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl Job for SumTiles<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { grid, images, of_result, gradient, scratch } = self;
        let Scratch { panels, padded, tiles, products, .. } = scratch;
        let (inputs, outputs) = (grid.inputs, grid.outputs);
        let width = panel::<L>();
        let at_once = grid.at_once();
        let tiles = room(tiles, PLACES * apart(at_once * inputs));
        let panels = room(panels, PLACES * apart(at_once * outputs.next_multiple_of(width)));
        let sums = room(products, PLACES * apart(inputs * outputs));
        let mut framed = Framed { grid, images, padded, shown: None };
        for first in (0..grid.tiles()).step_by(at_once) {
            let count = at_once.min(grid.tiles() - first);
            let of_place = apart(count * outputs.next_multiple_of(width));
            // SAFETY: the caller has the instructions.
            unsafe {
                transform_images::<L>(&mut framed, first, count, tiles);
                transform_slopes::<L>(grid, of_result, first, count, panels);
            }
            for place in 0..PLACES {
                let left = &tiles[place * apart(count * inputs)..][..count * inputs];
                let right = &panels[place * of_place..][..of_place];
                let sums = &mut sums[place * apart(inputs * outputs)..][..inputs * outputs];
                // SAFETY: as above.
                unsafe {
                    add_products::<L>(left, right, sums, [count, inputs, outputs], first > 0)
                };
            }
        }
        // SAFETY: as above.
        unsafe { gather_kernel::<L>(sums, gradient, inputs * outputs) };
    }
}

/// Images in their frames, one at a time.
struct Framed<'a> {
    grid: &'a Grid,
    images: &'a [f32],
    padded: &'a mut Vec<f32>,
    shown: Option<usize>,
}

impl Framed<'_> {
    fn show(&mut self, number: usize) -> &[f32] {
        let frame = &self.grid.frame;
        let elements = frame.image[0] * frame.image[1] * frame.channels;
        let image = &self.images[number * elements..][..elements];
        let length = frame.height * frame.row();
        if self.shown != Some(number) {
            self.shown = Some(number);
            // An image that fills its frame is shown where it lies.
            if frame.show(image, self.padded).as_ptr() == image.as_ptr() {
                self.shown = None;
                return image;
            }
        }
        &self.padded[..length]
    }
}

/// Products of tiles (count, inputs) with a packed kernel, into (count, outputs).
///
/// # Safety
/// The CPU has the lanes' instructions.
#[inline(always)]
unsafe fn multiply<L: Lanes>(
    left: &[f32],
    right: &[f32],
    made: &mut [f32],
    inputs: usize,
    outputs: usize,
) {
    let (width, count) = (panel::<L>(), left.len() / inputs);
    // Equal parts of the common dimension.
    let part = inputs.div_ceil(inputs.div_ceil(DEPTH));
    for column in (0..outputs).step_by(width) {
        let columns = width.min(outputs - column);
        for from in (0..inputs).step_by(part) {
            let length = part.min(inputs - from);
            let packed = &right[(column / width * inputs + from) * width..][..length * width];
            let runs = Runs { offsets: &[0], length, step: 1 };
            for row in (0..count).step_by(L::ROWS) {
                let rows = L::ROWS.min(count - row);
                let to = &mut made[row * outputs + column..][..(rows - 1) * outputs + columns];
                let first = to.as_mut_ptr();
                let target = Target { first, row_stride: outputs, columns, adds: from > 0 };
                let last = Last { bias: None, relu: false };
                let left = &left[row * inputs + from..][..(rows - 1) * inputs + length];
                // SAFETY: the caller has the instructions; what is read and written was just cut.
                unsafe {
                    tile::<L>(rows, left.as_ptr(), inputs, runs, packed.as_ptr(), target, last);
                }
            }
        }
    }
}

/// Adds to `sums` (inputs, outputs), or begins them, the products of tiles (count, inputs), turned, with
/// packed slopes (count, outputs).
///
/// # Safety
/// The CPU has the lanes' instructions.
#[inline(always)]
unsafe fn add_products<L: Lanes>(
    left: &[f32],
    right: &[f32],
    sums: &mut [f32],
    [count, inputs, outputs]: [usize; 3],
    adds: bool,
) {
    let width = panel::<L>();
    let part = count.div_ceil(count.div_ceil(DEPTH));
    for column in (0..outputs).step_by(width) {
        let columns = width.min(outputs - column);
        for from in (0..count).step_by(part) {
            let length = part.min(count - from);
            let packed = &right[(column / width * count + from) * width..][..length * width];
            let runs = Runs { offsets: &[0], length, step: inputs };
            for row in (0..inputs).step_by(L::ROWS) {
                let rows = L::ROWS.min(inputs - row);
                let to = &mut sums[row * outputs + column..][..(rows - 1) * outputs + columns];
                let (first, adds) = (to.as_mut_ptr(), adds || from > 0);
                let target = Target { first, row_stride: outputs, columns, adds };
                let last = Last { bias: None, relu: false };
                let left = &left[from * inputs + row..][..(length - 1) * inputs + rows];
                // SAFETY: the caller has the instructions; what is read and written was just cut.
                unsafe { tile::<L>(rows, left.as_ptr(), 1, runs, packed.as_ptr(), target, last) };
            }
        }
    }
}
