//! Keras 3's archive of a whole model: `config.json`, `model.weights.h5` and `metadata.json` in a
//! zip.

use std::io::{Cursor, Read, Write};

use arrowhop_types::Problems;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::format::WriteError;

/// Larger architectures are refused.
const CONFIG_BYTES_MAX: u64 = 64 << 20;
/// Weights hardly compress: what unpacks to more than this much more was made to.
const UNPACKED_MAX: u64 = 64;

/// A model's parts.
pub(crate) struct Parts {
    pub(crate) config: String,
    /// Of HDF5.
    pub(crate) weights: Vec<u8>,
}

/// Takes an archive apart.
pub(crate) fn open(file: Vec<u8>) -> Result<Parts, Problems> {
    let limit = UNPACKED_MAX * file.len() as u64;
    let mut archive = ZipArchive::new(Cursor::new(file))
        .map_err(|error| Problems::one("file", format!("is no zip archive: {error}")))?;
    let config = part(&mut archive, "config.json", limit.min(CONFIG_BYTES_MAX))?;
    let config = String::from_utf8(config)
        .map_err(|error| Problems::one("config.json", error.to_string()))?;
    Ok(Parts { config, weights: part(&mut archive, "model.weights.h5", limit)? })
}

fn part(
    archive: &mut ZipArchive<Cursor<Vec<u8>>>,
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, Problems> {
    let file = archive.by_name(name).map_err(|error| Problems::one(name, error.to_string()))?;
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Problems::one(name, error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(Problems::one(name, format!("unpacks to more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Puts an archive together.
pub(crate) fn encode(config: &str, weights: &[u8]) -> Result<Vec<u8>, WriteError> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(weights.len() >= 1 << 31);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let metadata = r#"{"keras_version": "3.0.0"}"#;
    for (name, bytes) in [
        ("metadata.json", metadata.as_bytes()),
        ("config.json", config.as_bytes()),
        ("model.weights.h5", weights),
    ] {
        archive.start_file(name, options)?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}
