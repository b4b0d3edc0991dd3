//! A model's state on its way from host to host. To any Flight client it is a stream with one
//! binary column, whose rows, put together, are the state; its size and digest are announced in the
//! schema's metadata.
//!
//! The sender cuts the state into chunks as the socket takes them and copies nothing. The receiver
//! fills one buffer of the announced size, hashing as it goes.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::LargeBinaryArray;
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow_flight::{FlightData, FlightDescriptor};
use arrowhop_types::{Digest, ModelId, Problems, RunId, Version};
use arrowhop_wire::tickets::ModelTicket;
use bytes::Bytes;

use crate::FlightError;
use crate::decode::{decode_parts, decode_schema};
use crate::encode::{EncodedBatch, Encoder, head, schema_header};

/// What announces a state that is put, instead of one that was asked for: no run has number 0.
pub(crate) const OFFERED: ModelTicket =
    ModelTicket { run: RunId(0), model: ModelId(0), version: Version(0) };

/// The descriptor's path of a state that is put; a shard has a command instead.
pub(crate) const STATE_PATH: &str = "state";

/// Measured best over loopback among 64 KiB to 64 MiB.
const CHUNK_BYTES: usize = 4 << 20;

/// The state of one version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBytes {
    /// As `arrowhop-train` encodes it.
    pub bytes: Bytes,
    /// Its blake3 digest.
    pub digest: Digest,
}

/// A state that is arriving.
pub(crate) struct StateReceiver {
    announced: Digest,
    size: usize,
    bytes: Vec<u8>,
    hasher: blake3::Hasher,
}

impl StateBytes {
    /// A state with the digest of its bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        let digest = Digest(blake3::hash(&bytes).into());
        Self { bytes, digest }
    }

    /// The whole stream as it goes over the wire, lazily, sharing the state's memory.
    pub(crate) fn frames(self, ticket: ModelTicket) -> impl Iterator<Item = Bytes> + Send {
        let schema = Arc::new(self.schema(ticket));
        let first = head(&schema_header(&schema), 0);
        std::iter::once(first).chain(self.chunks(schema).flat_map(EncodedBatch::into_frames))
    }

    /// The whole stream as messages that are put.
    pub(crate) fn upload(self) -> impl Iterator<Item = FlightData> + Send {
        let schema = Arc::new(self.schema(OFFERED));
        let first = FlightData {
            flight_descriptor: Some(FlightDescriptor::new_path(vec![STATE_PATH.to_owned()])),
            data_header: schema_header(&schema),
            ..FlightData::default()
        };
        std::iter::once(first).chain(self.chunks(schema).map(EncodedBatch::into_message))
    }

    /// The state in pieces, each one row of one column.
    fn chunks(self, schema: Arc<Schema>) -> impl Iterator<Item = EncodedBatch> + Send {
        let mut encoder = Encoder::new(&schema).expect("a binary column can be encoded");
        (0..self.bytes.len()).step_by(CHUNK_BYTES).map(move |start| {
            let end = self.bytes.len().min(start + CHUNK_BYTES);
            let values = Buffer::from(self.bytes.slice(start..end));
            let offsets = OffsetBuffer::from_lengths([end - start]);
            let column = Arc::new(LargeBinaryArray::new(offsets, values, None));
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column])
                .expect("the schema is a binary column");
            encoder.encode(&batch).expect("a binary column can be encoded")
        })
    }

    fn schema(&self, ticket: ModelTicket) -> Schema {
        let metadata = [
            ("run", ticket.run.to_string()),
            ("model", ticket.model.to_string()),
            ("version", ticket.version.to_string()),
            ("bytes", self.bytes.len().to_string()),
            ("digest", self.digest.to_string()),
        ];
        let metadata: HashMap<_, _> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let chunk = Field::new("chunk", DataType::LargeBinary, false);
        Schema::new_with_metadata(vec![chunk], metadata)
    }
}

impl StateReceiver {
    /// Reads the announcement, a stream's first message, and sets memory aside.
    pub(crate) fn new(
        first: &FlightData,
        ticket: ModelTicket,
        bytes_max: u64,
    ) -> Result<Self, FlightError> {
        let schema = decode_schema(&first.data_header)?;
        let announced = Announcement(schema.metadata());
        for (key, asked) in [
            ("run", ticket.run.0),
            ("model", u64::from(ticket.model.0)),
            ("version", ticket.version.0),
        ] {
            let sent: u64 = announced.read(key)?;
            if sent != asked {
                let text = format!("is {sent}, but {asked} was asked for");
                return Err(Problems::one(format!("state.{key}"), text).into());
            }
        }
        let bytes: u64 = announced.read("bytes")?;
        let too_large = || FlightError::StateTooLarge { bytes, limit: bytes_max };
        if bytes > bytes_max {
            return Err(too_large());
        }
        let size = usize::try_from(bytes).map_err(|_| too_large())?;
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(size).map_err(|_| too_large())?;
        Ok(Self {
            announced: announced.read("digest")?,
            size,
            bytes: buffer,
            hasher: blake3::Hasher::new(),
        })
    }

    /// Takes the next chunk.
    pub(crate) fn push(&mut self, message: &FlightData) -> Result<(), Problems> {
        let chunk = chunk_of(message)?;
        if chunk.len() > self.size - self.bytes.len() {
            let text = format!("has more than the {} bytes announced", self.size);
            return Err(Problems::one("state", text));
        }
        self.hasher.update(chunk);
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// The state, if all of it arrived as it was sent.
    pub(crate) fn finish(self) -> Result<StateBytes, FlightError> {
        if self.bytes.len() != self.size {
            let text = format!("ends after {} of {} bytes", self.bytes.len(), self.size);
            return Err(Problems::one("state", text).into());
        }
        let found = Digest(self.hasher.finalize().into());
        if found != self.announced {
            return Err(FlightError::WrongDigest { expected: self.announced, found });
        }
        Ok(StateBytes { bytes: self.bytes.into(), digest: found })
    }
}

/// The schema's metadata.
struct Announcement<'a>(&'a HashMap<String, String>);

impl Announcement<'_> {
    fn read<T: FromStr>(&self, key: &str) -> Result<T, Problems> {
        let text = self.0.get(key).and_then(|value| value.parse().ok());
        text.ok_or_else(|| Problems::one(format!("state.{key}"), "is absent or malformed"))
    }
}

/// The one value of a chunk's message. Read by hand, as it may lie unaligned.
fn chunk_of(message: &FlightData) -> Result<&[u8], Problems> {
    let body = &message.data_body;
    let parts = decode_parts(&message.data_header, body.len())?;
    let ([1], [_, offsets, values]) = (&*parts.lengths, &*parts.buffers) else {
        return Err(Problems::one("state", "has a chunk that is not one row of one column"));
    };
    let values = &body[values.clone()];
    let offset = |index: usize| {
        let bytes = body[offsets.clone()].get(8 * index..8 * (index + 1))?;
        usize::try_from(i64::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    offset(0)
        .zip(offset(1))
        .and_then(|(start, end)| values.get(start..end))
        .ok_or_else(|| Problems::one("state", "has a chunk outside its message"))
}
