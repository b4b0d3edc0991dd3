//! Weight files: a network's arrays in Keras's `get_weights()` order, out to files and in from them.
//!
//! | file | what it is |
//! |---|---|
//! | `.safetensors` | tensors named `NNN.layer/array`, or by their Keras names alone |
//! | `.npz` | numpy arrays, named alike, or `arr_N` as `np.savez` names them |
//! | `.f32` | little-endian f32, one array after the other (MADlib's `model_weights`) |
//! | `.h5` | Keras 3's `.weights.h5`; reads also the older weights and whole models of Keras 2 |
//! | `.keras` | Keras 3's archive of architecture and weights |
//!
//! A reader takes nothing on trust: every array that is missing, too many, of another shape or type,
//! or not finite is named, and what a file claims to hold is never allocated before it is known to
//! be wanted. This crate knows shapes and names, but neither networks nor training.

mod arrays;
mod assign;
mod format;
#[cfg(feature = "keras-h5")]
mod h5_read;
#[cfg(feature = "keras-h5")]
mod h5_write;
#[cfg(feature = "keras-h5")]
mod keras_zip;
#[cfg(feature = "keras-h5")]
mod layers;
mod npy;
mod npz;
mod raw;
mod tensors;
#[cfg(test)]
mod testing;

pub use arrays::{ArraySpec, Network};
pub use assign::Transfer;
pub use format::{Format, WriteError, architecture, decode, encode, read, read_by_name};
