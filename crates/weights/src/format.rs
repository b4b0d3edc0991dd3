//! The formats: which file is of which, and the way to each one's reader and writer.

use std::path::Path;

use arrowhop_types::{Classify, ErrorClass, Problems};

use crate::arrays::{Network, Stored};
use crate::assign::{self, Transfer};
use crate::npz::Npz;
use crate::tensors::Tensors;
use crate::{npz, raw, tensors};

/// Larger files are refused unread.
const FILE_BYTES_MAX: u64 = 16 << 30;

/// A format of weight files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.safetensors`.
    Safetensors,
    /// `.npz`.
    Npz,
    /// `.f32`.
    Raw,
    /// `.h5`.
    H5,
    /// `.keras`.
    Keras,
}

/// Weights that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The architecture is not one of Keras.
    #[error("read the network's architecture")]
    Architecture(#[from] Problems),
    /// No layer of the architecture has the array.
    #[error("place {array}, which no layer of the architecture has")]
    Unplaced {
        /// The array.
        array: String,
    },
    /// Safetensors refused it.
    #[error("write safetensors")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The archive refused it.
    #[error("write the archive")]
    Zip(#[from] zip::result::ZipError),
    /// The archive's memory refused it.
    #[error("write the archive")]
    Io(#[from] std::io::Error),
    /// HDF5 refused it.
    #[cfg(feature = "keras-h5")]
    #[error("write HDF5")]
    H5(#[from] hdf5_pure::Error),
    /// This program was built without the format.
    #[error("this program was built without Keras's files; build it with the feature keras-h5")]
    NotBuilt,
}

impl Classify for WriteError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Architecture(_) | Self::NotBuilt => ErrorClass::Invalid,
            _ => ErrorClass::Bug,
        }
    }
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Safetensors, Self::Npz, Self::Raw, Self::H5, Self::Keras];

    /// The ending of its files' names.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Npz => "npz",
            Self::Raw => "f32",
            Self::H5 => "h5",
            Self::Keras => "keras",
        }
    }

    /// What such a file is called where nobody names it.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Safetensors => "weights.safetensors",
            Self::Npz => "weights.npz",
            Self::Raw => "weights.f32",
            Self::H5 => "model.weights.h5",
            Self::Keras => "model.keras",
        }
    }

    /// A file's format, by the ending of its name.
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        let ending = file.extension()?.to_str()?.to_lowercase();
        let ending = if ending == "hdf5" { "h5" } else { &ending };
        Self::ALL.into_iter().find(|format| format.ending() == ending)
    }
}

/// The weights of a network from a file that has them all, in `get_weights()` order.
///
/// # Errors
/// Everything that stands in the way, each under the array's name: missing, too many, of another
/// shape or type, not finite.
pub fn read(file: &Path, network: &Network<'_>) -> Result<Vec<Vec<f32>>, Problems> {
    let (format, bytes) = load(file)?;
    decode(format, bytes, network)
}

/// As [`read`], of a file in memory.
///
/// # Errors
/// As [`read`].
pub fn decode(
    format: Format,
    bytes: Vec<u8>,
    network: &Network<'_>,
) -> Result<Vec<Vec<f32>>, Problems> {
    if format == Format::Raw {
        return raw::read(&bytes, network.arrays);
    }
    assign::all(&mut *open(format, bytes, Some(network))?, network.arrays)
}

/// The weights of those layers of a network that a file has under the same names and with the same
/// shapes.
///
/// # Errors
/// When the file has none of them, and everything that stands in the way of reading the others.
pub fn read_by_name(file: &Path, network: &Network<'_>) -> Result<Transfer, Problems> {
    let (format, bytes) = load(file)?;
    if format == Format::Raw {
        return Err(Problems::one("file", "has no names; give a file that has"));
    }
    assign::by_name(&mut *open(format, bytes, None)?, network.arrays)
}

/// The architecture in a file of a whole model, as `model.to_json()` gives it; `None` where the
/// file's name is not that of one.
///
/// # Errors
/// When the file has none, or cannot be read.
pub fn architecture(file: &Path) -> Result<Option<String>, Problems> {
    if !matches!(Format::of(file), Some(Format::H5 | Format::Keras)) {
        return Ok(None);
    }
    let (format, bytes) = load(file)?;
    keras::architecture(format, bytes).map(Some)
}

/// A file with these weights of a network, in `get_weights()` order. `about` says whose they are,
/// where the format has room for it.
///
/// # Errors
/// When the network's arrays and its architecture do not go together.
pub fn encode(
    format: Format,
    network: &Network<'_>,
    values: &[Vec<f32>],
    about: &str,
) -> Result<Vec<u8>, WriteError> {
    match format {
        Format::Safetensors => tensors::encode(network, values, about),
        Format::Npz => npz::encode(network, values),
        Format::Raw => Ok(raw::encode(values)),
        Format::H5 | Format::Keras => keras::encode(format, network, values),
    }
}

/// A file's format and bytes.
fn load(file: &Path) -> Result<(Format, Vec<u8>), Problems> {
    let format = Format::of(file).ok_or_else(|| {
        let endings = Format::ALL.map(|format| format!(".{}", format.ending())).join(", ");
        Problems::one("file", format!("is no weight file by its name; known: {endings}"))
    })?;
    let unreadable = |error: std::io::Error| Problems::one("file", error.to_string());
    let size = file.metadata().map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        let text = format!("has {size} bytes; {FILE_BYTES_MAX} is the most that is read");
        return Err(Problems::one("file", text));
    }
    Ok((format, std::fs::read(file).map_err(unreadable)?))
}

/// Lists a file's arrays: in the order of the network, where one is given.
fn open(
    format: Format,
    bytes: Vec<u8>,
    network: Option<&Network<'_>>,
) -> Result<Box<dyn Stored>, Problems> {
    match format {
        Format::Safetensors => Ok(Box::new(Tensors::open(bytes)?)),
        Format::Npz => Ok(Box::new(Npz::open(bytes)?)),
        Format::H5 | Format::Keras => keras::open(format, bytes, network),
        Format::Raw => unreachable!("raw numbers are not listed"),
    }
}

/// Keras's own files.
#[cfg(feature = "keras-h5")]
mod keras {
    use arrowhop_types::Problems;

    use super::{Format, WriteError};
    use crate::arrays::{Network, Stored};
    use crate::h5_read::KerasH5;
    use crate::{h5_write, keras_zip, layers};

    pub(super) fn open(
        format: Format,
        bytes: Vec<u8>,
        network: Option<&Network<'_>>,
    ) -> Result<Box<dyn Stored>, Problems> {
        if format == Format::Keras {
            let parts = keras_zip::open(bytes)?;
            let layers = layers::read(&parts.config)?;
            return Ok(Box::new(KerasH5::open(parts.weights, Some(&layers))?));
        }
        let layers = network.map(|network| layers::read(network.keras_json)).transpose()?;
        Ok(Box::new(KerasH5::open(bytes, layers.as_deref())?))
    }

    pub(super) fn architecture(format: Format, bytes: Vec<u8>) -> Result<String, Problems> {
        match format {
            Format::Keras => Ok(keras_zip::open(bytes)?.config),
            _ => KerasH5::architecture(bytes),
        }
    }

    pub(super) fn encode(
        format: Format,
        network: &Network<'_>,
        values: &[Vec<f32>],
    ) -> Result<Vec<u8>, WriteError> {
        let weights = h5_write::encode(network, values)?;
        match format {
            Format::Keras => keras_zip::encode(network.keras_json, &weights),
            _ => Ok(weights),
        }
    }
}

/// Keras's own files, in a program without them.
#[cfg(not(feature = "keras-h5"))]
mod keras {
    use arrowhop_types::Problems;

    use super::{Format, WriteError};
    use crate::arrays::{Network, Stored};

    fn not_built() -> Problems {
        Problems::one("file", WriteError::NotBuilt.to_string())
    }

    pub(super) fn open(
        _: Format,
        _: Vec<u8>,
        _: Option<&Network<'_>>,
    ) -> Result<Box<dyn Stored>, Problems> {
        Err(not_built())
    }

    pub(super) fn architecture(_: Format, _: Vec<u8>) -> Result<String, Problems> {
        Err(not_built())
    }

    pub(super) fn encode(
        _: Format,
        _: &Network<'_>,
        _: &[Vec<f32>],
    ) -> Result<Vec<u8>, WriteError> {
        Err(WriteError::NotBuilt)
    }
}
