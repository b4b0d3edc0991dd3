//! Numpy's archive of arrays: a zip of `.npy` files.

use std::io::{Cursor, Read, Write};

use arrowhop_npy::{HEADER_BYTES_MAX, header, header_of};
use arrowhop_types::Problems;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::arrays::{Entry, Network, Stored, bytes, number_of, numbered};
use crate::format::WriteError;
use crate::npy;

/// A file in memory.
pub(crate) struct Npz {
    archive: ZipArchive<Cursor<Vec<u8>>>,
    entries: Vec<Entry>,
    /// Of each entry, its place in the archive.
    places: Vec<usize>,
    is_ordered: bool,
}

impl Npz {
    pub(crate) fn open(file: Vec<u8>) -> Result<Self, Problems> {
        let mut archive = ZipArchive::new(Cursor::new(file))
            .map_err(|error| Problems::one("file", format!("is no zip archive: {error}")))?;
        let mut problems = Problems::new();
        let mut found = Vec::new();
        for i in 0..archive.len() {
            match listed(&mut archive, i) {
                Ok((place, shape)) => found.push((place, shape, i)),
                Err((place, text)) => problems.push(place, text),
            }
        }
        let mut found = problems.or(found)?;
        let is_ordered = found.iter().all(|(place, ..)| number_of(place).is_some());
        found.sort_by_cached_key(|(place, ..)| {
            (number_of(place).map(|(number, _)| number), place.clone())
        });
        let (mut entries, mut places) = (Vec::new(), Vec::new());
        for (place, shape, i) in found {
            let name = number_of(&place).map_or(place.as_str(), |(_, rest)| rest).to_owned();
            entries.push(Entry { place, name, shape });
            places.push(i);
        }
        Ok(Self { archive, entries, places, is_ordered })
    }
}

/// The name and the shape of the array at a place in the archive.
fn listed(
    archive: &mut ZipArchive<Cursor<Vec<u8>>>,
    i: usize,
) -> Result<(String, Vec<usize>), (String, String)> {
    let mut file = archive
        .by_index(i)
        .map_err(|error| (format!("file {i} of the archive"), error.to_string()))?;
    let place = file.name().map_or_else(|_| i.to_string(), |name| name.to_string());
    let place = place.strip_suffix(".npy").unwrap_or(&place).to_owned();
    let mut head = Vec::new();
    let read = (&mut file).take(HEADER_BYTES_MAX as u64).read_to_end(&mut head);
    match read.map_err(|error| error.to_string()).and_then(|_| header(&head)) {
        Ok(header) => Ok((place, header.shape)),
        Err(text) => Err((place, text)),
    }
}

impl Stored for Npz {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    fn values(&mut self, entry: usize) -> Result<Vec<f32>, String> {
        let file = self.archive.by_index(self.places[entry]).map_err(|error| error.to_string())?;
        let elements: usize = self.entries[entry].shape.iter().product();
        // One byte more than there should be tells a file that is too long.
        let limit = HEADER_BYTES_MAX + 4 * elements + 1;
        let mut npy = Vec::new();
        file.take(limit as u64).read_to_end(&mut npy).map_err(|error| error.to_string())?;
        npy::values(&npy, &header(&npy)?)
    }
}

/// The file's bytes.
pub(crate) fn encode(network: &Network<'_>, values: &[Vec<f32>]) -> Result<Vec<u8>, WriteError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (i, (array, values)) in network.arrays.iter().zip(values).enumerate() {
        let large = values.len() >= 1 << 29;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(large);
        archive.start_file(format!("{}.npy", numbered(i, array)), options)?;
        archive.write_all(&header_of("<f4", &array.shape))?;
        archive.write_all(&bytes(values))?;
    }
    Ok(archive.finish()?.into_inner())
}
