//! CPU kernels on plain slices: matrix products and convolutions, forward and both gradients, channels
//! last, in single precision or with operands rounded to bfloat16. The one place for `unsafe`; knows no
//! tensors, no threads and no Burn.
//!
//! ```text
//! product, convolution: what is multiplied with what, block by block
//!         │      winograd: 3×3 over many channels with 16 multiplications instead of 36
//!         │ rows of one operand where they lie, columns of the other packed into panels
//!         ▼
//! tile: a block of the result in registers  ── lanes: vectors of AVX-512, AVX2 or plain Rust
//! half: the same of halves, in pairs of lanes or by the matrix unit
//! ```
//!
//! Both kinds of work are one thing: a block of R rows and two vectors of columns is kept in registers
//! while the common dimension runs by. For convolutions that dimension is the window's cells and
//! channels, which with channels last lie in a few runs of memory, so that nothing is unfolded.
//!
//! Measured on one core with AVX2 (64 GFLOP/s at its clock), batches of 32: convolutions of 3×3 over 32
//! and 64 channels 46 to 68 GFLOP/s forward and 38 to 63 in both gradients, dense layers 34 to 60. What
//! made the difference: a tile's sums must be finished in loops of one thing each, or the compiler keeps
//! them all in memory (22 GFLOP/s instead of 68); small images are summed up several at a time in the
//! gradient of a kernel (32 instead of 20 at 4×4 with 512 channels); an operand that lies by columns is
//! packed once. Of 3×3 over 32 channels and more, Winograd's transformation makes 70 to 105 GFLOP/s of
//! sums as they are defined, forward and in the gradient of the images, and 40 to 55 in that of the kernel;
//! places of a transformed tile must not lie a multiple of 4096 bytes apart. `examples/speed.rs` measures
//! it.
//!
//! What this CPU does not have is tested on an emulated one (`just test-isa`).
//!
//! One thread; the same numbers on the same [`Isa`]. Between them bits differ: AVX-512 and AVX2 fuse
//! each multiplication with its addition, plain Rust does not.

mod convolution;
mod frame;
mod half;
mod isa;
mod lanes;
mod normalization;
mod pack;
mod pooling;
mod product;
mod rows;
mod tile;
mod winograd;

pub use convolution::{Convolution, input_gradient, kernel_gradient, slide};
pub use frame::Axis;
pub use isa::{Arithmetic, Isa, Precision};
pub use normalization::{Moments, moments, normalize, normalize_gradient};
pub use pack::{Matrix, Scratch};
pub use pooling::{Pooling, pool_max, pool_max_gradient};
pub use product::{Finish, column_sums, multiply, multiply_transposed};
pub use rows::{add_to_rows, keep_positive, sum_rows};
