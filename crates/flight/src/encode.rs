//! Record batches as Flight messages, and Flight messages as they lie on the wire.
//!
//! A `FlightData` message within a gRPC stream is
//!
//! ```text
//! │ 0 │ length: u32 BE │ tag 2, length, IPC header │ tag 1000, length │ IPC body … │
//! └───── gRPC ─────────┴──────────── head ─────────┴──────────────────┴── body ────┘
//! ```
//!
//! so that a head, written once, and a body, taken from wherever it lies, are a message together.

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow::record_batch::RecordBatch;
use arrow_flight::{FlightData, SchemaAsIpc};
use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// `FlightData.data_header` and `FlightData.data_body` in Flight.proto.
const HEADER_TAG: u32 = 2;
const BODY_TAG: u32 = 1_000;

/// Pieces smaller than this are gathered into one buffer; larger ones are never copied.
const GATHER_BYTES: usize = 4_096;

/// Length of a gRPC message's prefix: a compression flag and the message's length.
pub(crate) const GRPC_PREFIX_BYTES: usize = 5;

/// Length of an IPC message's prefix: a marker and the header's length.
pub(crate) const IPC_PREFIX_BYTES: usize = 8;

/// Encodes batches of one schema.
pub(crate) struct Encoder {
    stream: StreamEncoder,
}

/// An IPC message whose body still lies where the batch lies.
pub(crate) struct EncodedBatch {
    /// The IPC header: `FlightData.data_header`.
    pub(crate) header: Vec<u8>,
    /// The pieces of the IPC body, in order.
    pub(crate) body: Vec<Buffer>,
}

impl Encoder {
    pub(crate) fn new(schema: &Schema) -> Result<Self, ArrowError> {
        let mut stream = StreamEncoder::try_new(schema)?;
        // What is encoded first has the schema's message before it: spend that on nothing.
        stream.encode(&RecordBatch::new_empty(schema.clone().into()))?;
        Ok(Self { stream })
    }

    pub(crate) fn encode(&mut self, batch: &RecordBatch) -> Result<EncodedBatch, ArrowError> {
        let mut pieces = self.stream.encode(batch)?.into_iter();
        let prefix = pieces.next().expect("an IPC message has a prefix");
        let length = prefix[IPC_PREFIX_BYTES - 4..].try_into().expect("a prefix has eight bytes");
        let length = u32::from_le_bytes(length) as usize;
        let mut header = Vec::with_capacity(length);
        while header.len() < length {
            header.extend_from_slice(&pieces.next().expect("a prefix gives the header's length"));
        }
        Ok(EncodedBatch { header, body: pieces.collect() })
    }
}

impl EncodedBatch {
    pub(crate) fn body_bytes(&self) -> usize {
        self.body.iter().map(Buffer::len).sum()
    }

    /// The body in one piece, aligned to 64 bytes: the only copy when a shard is cached.
    pub(crate) fn contiguous_body(&self) -> Buffer {
        let mut body = MutableBuffer::with_capacity(self.body_bytes());
        self.body.iter().for_each(|piece| body.extend_from_slice(piece.as_slice()));
        body.into()
    }

    /// The message, its body in one piece.
    pub(crate) fn into_message(self) -> FlightData {
        FlightData {
            data_body: bytes_of(self.contiguous_body()),
            data_header: self.header.into(),
            ..FlightData::default()
        }
    }

    /// The message as it goes over the wire. Large pieces are not copied.
    pub(crate) fn into_frames(self) -> Vec<Bytes> {
        let mut small = BytesMut::from(&*head(&self.header, self.body_bytes()));
        let mut frames = Vec::new();
        for piece in self.body {
            if piece.len() < GATHER_BYTES {
                small.extend_from_slice(&piece);
            } else {
                frames.push(small.split().freeze());
                frames.push(bytes_of(piece));
            }
        }
        frames.push(small.freeze());
        frames.retain(|frame| !frame.is_empty());
        frames
    }
}

/// The IPC header of a schema's message, which has no body.
pub(crate) fn schema_header(schema: &Schema) -> Bytes {
    let message: FlightData = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).into();
    message.data_header
}

/// All of a message but its body.
pub(crate) fn head(header: &[u8], body_bytes: usize) -> Bytes {
    let bytes = wire_bytes(header.len(), body_bytes);
    let mut head = BytesMut::with_capacity(bytes - body_bytes);
    head.put_u8(0);
    let message = u32::try_from(bytes - GRPC_PREFIX_BYTES);
    head.put_u32(message.expect("messages stay below MESSAGE_BYTES_MAX"));
    encode_key(HEADER_TAG, WireType::LengthDelimited, &mut head);
    encode_varint(header.len() as u64, &mut head);
    head.put_slice(header);
    if body_bytes > 0 {
        encode_key(BODY_TAG, WireType::LengthDelimited, &mut head);
        encode_varint(body_bytes as u64, &mut head);
    }
    head.freeze()
}

/// Length of a message on the wire, head and body.
pub(crate) fn wire_bytes(header_bytes: usize, body_bytes: usize) -> usize {
    let field = |tag: u32, bytes: usize| match bytes {
        0 => 0,
        _ => key_len(tag) + encoded_len_varint(bytes as u64) + bytes,
    };
    GRPC_PREFIX_BYTES + field(HEADER_TAG, header_bytes) + field(BODY_TAG, body_bytes)
}

/// The same memory, as the transport wants it.
pub(crate) fn bytes_of(buffer: Buffer) -> Bytes {
    struct Owner(Buffer);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owner(buffer))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::LargeBinaryArray;
    use prost::Message;

    use super::*;

    #[test]
    fn frames_are_the_message_that_prost_would_write_and_share_the_batch_s_memory() {
        for length in [0, 1, 63, 64, 5_000] {
            let values = vec![7_u8; length];
            let column = Arc::new(LargeBinaryArray::from_vec(vec![&values]));
            let batch = RecordBatch::try_from_iter([("chunk", column as _)]).unwrap();
            let mut encoder = Encoder::new(&batch.schema()).unwrap();
            let encoded = encoder.encode(&batch).unwrap();
            let message = FlightData {
                data_header: encoded.header.clone().into(),
                data_body: bytes_of(encoded.contiguous_body()),
                ..FlightData::default()
            };
            let frames = encoded.into_frames();
            let wire = frames.concat();
            assert_eq!(wire[0], 0);
            assert_eq!(wire[1..5], u32::try_from(wire.len() - 5).unwrap().to_be_bytes());
            assert_eq!(wire[5..], message.encode_to_vec());
            let values = batch.column(0).to_data().buffers()[1].as_ptr();
            let shared = frames.iter().any(|frame| frame.as_ptr() == values);
            assert_eq!(shared, length >= GATHER_BYTES);
        }
    }

    #[test]
    fn a_message_without_a_body_is_what_prost_would_write() {
        let message = FlightData { data_header: vec![5; 300].into(), ..FlightData::default() };
        assert_eq!(head(&message.data_header, 0)[5..], message.encode_to_vec());
    }
}
