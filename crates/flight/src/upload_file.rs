//! An upload's file: Arrow's stream format, as any Arrow library reads it, message by message.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use arrow::ipc::{Message, root_as_message};
use bytes::{BufMut, Bytes, BytesMut};

use crate::MESSAGE_BYTES_MAX;
use crate::encode::head;

/// Before each message: the marker of the format, then the header's length.
const MARKER: [u8; 4] = [0xff; 4];
/// After the last message.
pub(crate) const END: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// Headers are filled up to a multiple of this.
const ALIGNMENT: usize = 8;

/// The messages of a file.
pub(crate) struct Messages {
    file: BufReader<File>,
}

/// A message as it lies in a stream: the header with what is before it, and the body.
pub(crate) fn encapsulated(header: &Bytes, body: &Bytes) -> [Bytes; 2] {
    let length = header.len().next_multiple_of(ALIGNMENT);
    let mut before = BytesMut::with_capacity(2 * MARKER.len() + length);
    before.put_slice(&MARKER);
    before.put_u32_le(u32::try_from(length).expect("headers are below 64 KiB"));
    before.put_slice(header);
    before.put_bytes(0, length - header.len());
    [before.freeze(), body.clone()]
}

impl Messages {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?) })
    }

    /// The schema's header, and the rows over all batches.
    pub(crate) fn survey(mut self) -> io::Result<(Bytes, u64)> {
        let (mut schema, mut rows) = (None, 0);
        while let Some(header) = self.header()? {
            let message = read_message(&header)?;
            let batch = message.header_as_record_batch();
            rows += batch.map_or(0, |batch| u64::try_from(batch.length()).unwrap_or(0));
            let body = message.bodyLength();
            self.file.seek_relative(body)?;
            schema.get_or_insert(header);
        }
        Ok((schema.ok_or_else(|| damaged("it has no schema"))?, rows))
    }

    /// The next message as it goes over the wire; `None` after the last.
    pub(crate) fn next_frames(&mut self) -> io::Result<Option<[Bytes; 2]>> {
        let Some(header) = self.header()? else { return Ok(None) };
        let length = usize::try_from(read_message(&header)?.bodyLength()).ok();
        let length = length.filter(|length| *length <= MESSAGE_BYTES_MAX);
        let mut body = vec![0; length.ok_or_else(|| damaged("a body is too long"))?];
        self.file.read_exact(&mut body)?;
        Ok(Some([head(&header, body.len()), body.into()]))
    }

    fn header(&mut self) -> io::Result<Option<Bytes>> {
        let mut before = [0; 8];
        self.file.read_exact(&mut before)?;
        let (marker, length) = before.split_at(MARKER.len());
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        match length {
            _ if marker != MARKER || length > MESSAGE_BYTES_MAX => Err(damaged("a header is none")),
            0 => Ok(None),
            length => {
                let mut header = vec![0; length];
                self.file.read_exact(&mut header)?;
                Ok(Some(header.into()))
            }
        }
    }
}

fn read_message(header: &[u8]) -> io::Result<Message<'_>> {
    root_as_message(header).map_err(|error| damaged(&error.to_string()))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the file is damaged: {what}"))
}
