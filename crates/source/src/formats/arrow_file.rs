//! Arrow IPC, as file and as stream: the batches' arrays lie in the file's bytes. Every offset and
//! length is checked against the file before it is followed.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, StreamDecoder, read_footer_length};
use arrow::ipc::{Block, root_as_footer};
use arrowhop_types::Problems;
use bytes::Bytes;

use super::Rows;
use crate::table::guarded;

/// What a file begins with, to a multiple of eight, and ends with.
const MAGIC_BYTES: usize = 8;
/// The footer's length and the magic at the end.
const TAIL_BYTES: usize = 10;

/// Reads a file with a footer (`.arrow`, Feather version 2).
pub(crate) fn decode_file(name: &str, bytes: Bytes) -> Result<Rows, Problems> {
    decoded(name, bytes, |bytes| {
        let cut = || ArrowError::IpcError("it is cut short".into());
        let body = bytes.len().checked_sub(TAIL_BYTES).ok_or_else(cut)?;
        let tail = bytes[body..].try_into().expect("ten bytes");
        let length = read_footer_length(tail)?;
        let start = body.checked_sub(length).filter(|start| *start >= MAGIC_BYTES);
        let start = start.ok_or_else(cut)?;
        let footer = root_as_footer(&bytes[start..body])
            .map_err(|error| ArrowError::IpcError(error.to_string()))?;
        let no_schema = || ArrowError::IpcError("it has no schema".into());
        let schema = Arc::new(fb_to_schema(footer.schema().ok_or_else(no_schema)?));
        let mut decoder = FileDecoder::new(schema.clone(), footer.version());
        for block in footer.dictionaries().iter().flatten() {
            decoder.read_dictionary(block, &part(&bytes, block)?)?;
        }
        let mut batches = Vec::new();
        for block in footer.recordBatches().iter().flatten() {
            batches.extend(decoder.read_record_batch(block, &part(&bytes, block)?)?);
        }
        Ok((schema, batches))
    })
}

/// Reads a stream of messages.
pub(super) fn decode_stream(name: &str, bytes: Bytes) -> Result<Rows, Problems> {
    decoded(name, bytes, |mut bytes| {
        let mut decoder = StreamDecoder::new();
        let mut batches: Vec<RecordBatch> = Vec::new();
        while !bytes.is_empty() {
            batches.extend(decoder.decode(&mut bytes)?);
        }
        let schema = decoder.schema();
        decoder.finish()?;
        let none = || ArrowError::IpcError("it has no schema".into());
        Ok((schema.ok_or_else(none)?, batches))
    })
}

/// The bytes of a block, if the file has them.
fn part(bytes: &Buffer, block: &Block) -> Result<Buffer, ArrowError> {
    let wrong = || ArrowError::IpcError("a block of it lies beyond its end".into());
    let start = usize::try_from(block.offset()).map_err(|_| wrong())?;
    let head = usize::try_from(block.metaDataLength()).map_err(|_| wrong())?;
    let body = usize::try_from(block.bodyLength()).map_err(|_| wrong())?;
    let length = head.checked_add(body).ok_or_else(wrong)?;
    let end = start.checked_add(length).filter(|end| *end <= bytes.len());
    end.ok_or_else(wrong)?;
    Ok(bytes.slice_with_length(start, length))
}

fn decoded(
    name: &str,
    bytes: Bytes,
    decode: impl FnOnce(Buffer) -> Result<Rows, ArrowError>,
) -> Result<Rows, Problems> {
    guarded(|| decode(Buffer::from(bytes))).map_err(|text| {
        let text = format!("is damaged, or compressed: {text}; write it anew, without compression");
        Problems::one(name, text)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use arrow::array::{ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array};
    use arrow::datatypes::{Int8Type, Int32Type};
    use arrow::ipc::writer::{FileWriter, StreamWriter};

    use super::super::Format;
    use super::*;
    use crate::workspace::Workspace;

    fn batches() -> Vec<RecordBatch> {
        let of = |from: i32| {
            let y: ArrayRef = Arc::new(Int32Array::from_iter_values(from..from + 50));
            let x: ArrayRef = Arc::new(Float64Array::from_iter(
                (0..50).map(|i| (i % 3 != 0).then(|| f64::from(i + from))),
            ));
            let d: DictionaryArray<Int8Type> = (0..50).map(|i| ["a", "b"][i % 2]).collect();
            RecordBatch::try_from_iter([("x", x), ("y", y), ("d", Arc::new(d) as ArrayRef)])
                .unwrap()
        };
        vec![of(0), of(50)]
    }

    /// The same rows as a file and as a stream.
    fn files(dir: &Path) -> [std::path::PathBuf; 2] {
        let (file, stream) = (dir.join("file"), dir.join("stream"));
        let schema = batches()[0].schema();
        let mut writer = FileWriter::try_new(File::create(&file).unwrap(), &schema).unwrap();
        batches().iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        let mut writer = StreamWriter::try_new(File::create(&stream).unwrap(), &schema).unwrap();
        batches().iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        [file, stream]
    }

    #[test]
    fn files_and_streams_are_told_apart_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let [file, stream] = files(dir.path());
        let workspace = Workspace::in_memory();
        assert_eq!(Format::of_path(&file), Ok(Format::ArrowFile));
        assert_eq!(Format::of_path(&stream), Ok(Format::ArrowStream));
        for path in [file, stream] {
            let bytes = fs::read(&path).unwrap().into();
            let (_, read) =
                Format::of_path(&path).unwrap().decode("t", bytes, None, &workspace).unwrap();
            assert_eq!(read, batches());
            assert_eq!(read[1].column(1).as_primitive::<Int32Type>().value(0), 50);
        }
    }

    #[test]
    fn damaged_and_cut_files_are_refused_and_nothing_panics() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::in_memory();
        for path in files(dir.path()) {
            let whole = fs::read(&path).unwrap();
            let format = Format::of_path(&path).unwrap();
            let mut refused = 0;
            for at in (0..whole.len()).step_by(7) {
                let cut = whole[..at].to_vec().into();
                refused += usize::from(format.decode("t", cut, None, &workspace).is_err());
                for flip in [0x01, 0x80, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[at] ^= flip;
                    refused +=
                        usize::from(format.decode("t", bytes.into(), None, &workspace).is_err());
                }
            }
            assert!(refused > whole.len() / 14, "{path:?}: only {refused}");
        }
    }
}
