//! A shard as it is cached: its rows as Arrow arrays, and the very same memory as messages that go
//! over the wire without being encoded again.

use std::sync::Arc;
use std::time::Duration;

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrowhop_types::Problems;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tonic::Status;

use crate::columns::{check_batch, check_schema};
use crate::decode::{decode_batch, decode_schema};
use crate::encode::{Encoder, bytes_of, head, schema_header, wire_bytes};
use crate::shard_folder::{NewShardFile, blocking};
use crate::{FlightError, Reservation};

/// A sender that is silent for longer than this is taken for lost.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One part of one shard, in memory.
#[derive(Debug)]
pub struct CachedShard {
    schema: SchemaRef,
    schema_frame: Bytes,
    batches: Vec<CachedBatch>,
    /// Rows of the first and of the last batch so far.
    batch_rows: Option<(usize, usize)>,
    rows: u64,
    bytes: u64,
    reservation: Option<Reservation>,
}

/// A batch of a cached shard.
#[derive(Debug)]
pub struct CachedBatch {
    /// The message before its body, from the gRPC prefix on.
    pub head: Bytes,
    /// The message's body: an IPC body, aligned to 64 bytes.
    pub body: Bytes,
    /// The rows: a view over `body`.
    pub batch: RecordBatch,
}

/// What may be received.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveLimits {
    /// Bytes of batches, at most.
    pub bytes: u64,
    /// Rows, exactly; `None` when nobody said.
    pub rows: Option<u64>,
}

/// A shard of which not all has arrived.
struct Arriving<S> {
    stream: S,
    limits: ReceiveLimits,
    shard: Option<CachedShard>,
}

impl<S: Stream<Item = Result<FlightData, Status>> + Unpin> Arriving<S> {
    /// Takes the next message; whether there was one.
    async fn next(&mut self) -> Result<bool, FlightError> {
        let action = "receive a shard";
        let message = tokio::time::timeout(SILENCE_MAX, self.stream.next());
        let message =
            message.await.map_err(|_| FlightError::TimedOut { action, limit: SILENCE_MAX })?;
        let Some(message) = message else { return Ok(false) };
        let message = message.map_err(|status| FlightError::Peer { action, status })?;
        match &mut self.shard {
            None => {
                let schema = decode_schema(&message.data_header)?;
                self.shard = Some(CachedShard::empty(Arc::new(schema))?);
            }
            Some(shard) => shard.admit(&message, self.limits)?,
        }
        Ok(true)
    }

    /// The batch that came last, which is not kept here then.
    fn take_batch(&mut self) -> Option<CachedBatch> {
        self.shard.as_mut()?.batches.pop()
    }

    /// What arrived, if it is all there.
    fn finish(self) -> Result<CachedShard, FlightError> {
        let shard = self.shard.ok_or_else(|| Problems::one("shard", "is an empty stream"))?;
        match self.limits.rows {
            Some(rows) if rows != shard.rows => {
                let text = format!("ends after {} of {rows} rows; send it again", shard.rows);
                Err(Problems::one("shard", text).into())
            }
            _ => Ok(shard),
        }
    }
}

impl CachedShard {
    /// Copies batches into a cache of their own, each once.
    ///
    /// # Errors
    /// [`FlightError::Invalid`] when schema or batches are not as `arrowhop_types::DataSet` says.
    pub fn encode(
        schema: SchemaRef,
        batches: impl IntoIterator<Item = RecordBatch>,
    ) -> Result<Self, FlightError> {
        let mut shard = Self::empty(schema)?;
        let mut encoder = Encoder::new(&shard.schema)?;
        for (index, batch) in batches.into_iter().enumerate() {
            check_batch(&shard.schema, index, &batch)?;
            let encoded = encoder.encode(&batch)?;
            shard.push(&encoded.header, encoded.contiguous_body())?;
        }
        Ok(shard)
    }

    /// Receives a shard's stream. Each body is copied once, into memory of its own: aligned,
    /// and independent of the transport's larger buffers.
    ///
    /// # Errors
    /// [`FlightError::Invalid`] when the stream is not a shard or exceeds `limits`;
    /// [`FlightError::Peer`] when it breaks off; [`FlightError::TimedOut`] when it stalls.
    pub async fn receive(
        stream: impl Stream<Item = Result<FlightData, Status>> + Unpin,
        limits: ReceiveLimits,
    ) -> Result<Self, FlightError> {
        let mut arriving = Arriving { stream, limits, shard: None };
        while arriving.next().await? {}
        arriving.finish()
    }

    /// Receives a shard's stream into a file, batch by batch.
    ///
    /// # Errors
    /// As [`CachedShard::receive`], and when the file cannot be written.
    pub(crate) async fn receive_into(
        mut file: NewShardFile,
        stream: impl Stream<Item = Result<FlightData, Status>> + Unpin,
        limits: ReceiveLimits,
    ) -> Result<(), FlightError> {
        let mut arriving = Arriving { stream, limits, shard: None };
        while arriving.next().await? {
            if let Some(CachedBatch { batch, .. }) = arriving.take_batch() {
                file = blocking(move || file.push(&batch).map(|()| file)).await?;
            }
        }
        arriving.finish()?;
        blocking(move || file.finish()).await
    }

    pub(crate) fn empty(schema: SchemaRef) -> Result<Self, Problems> {
        check_schema(&schema)?;
        let schema_frame = head(&schema_header(&schema), 0);
        let (batches, batch_rows) = (Vec::new(), None);
        Ok(Self { schema, schema_frame, batches, batch_rows, rows: 0, bytes: 0, reservation: None })
    }

    /// Takes the next message of a stream, if the limits allow it.
    fn admit(&mut self, message: &FlightData, limits: ReceiveLimits) -> Result<(), Problems> {
        let arrived = wire_bytes(message.data_header.len(), message.data_body.len()) as u64;
        if self.bytes + arrived > limits.bytes {
            let text = format!("has more than the {} bytes that it may have", limits.bytes);
            return Err(Problems::one("shard", text));
        }
        self.push(&message.data_header, Buffer::from(message.data_body.as_ref()))?;
        match limits.rows {
            Some(rows) if self.rows > rows => {
                Err(Problems::one("shard", format!("has more than the {rows} rows announced")))
            }
            _ => Ok(()),
        }
    }

    /// Takes the next batch.
    pub(crate) fn push(&mut self, header: &[u8], body: Buffer) -> Result<(), Problems> {
        let before = self.rows;
        let place = |problems: Problems| {
            let mut placed = Problems::new();
            placed.extend(&format!("batch after {before} rows: "), &problems);
            placed
        };
        let batch = decode_batch(&self.schema, header, &body).map_err(place)?;
        self.check_rows(&batch).map_err(place)?;
        let head = head(header, body.len());
        let rows = batch.num_rows();
        self.batch_rows = Some((self.batch_rows.map_or(rows, |(first, _)| first), rows));
        self.rows += rows as u64;
        self.bytes += (head.len() + body.len()) as u64;
        self.batches.push(CachedBatch { head, body: bytes_of(body), batch });
        Ok(())
    }

    /// All batches but the last have the rows of the first.
    fn check_rows(&self, batch: &RecordBatch) -> Result<(), Problems> {
        let refuse = |text: String| Err(Problems::one("rows", text));
        let rows = batch.num_rows();
        let Some((first, last)) = self.batch_rows else {
            return if rows == 0 { refuse("are none".into()) } else { Ok(()) };
        };
        if last < first {
            return refuse(format!("follow a batch of {last}; only the last may be below {first}"));
        }
        if rows == 0 || rows > first {
            return refuse(format!("are {rows}, not 1 to {first} as in the batches before"));
        }
        Ok(())
    }

    /// Ties a reservation to this shard's memory: it is given back when the last reader is done.
    #[must_use]
    pub fn hold(mut self, reservation: Reservation) -> Self {
        self.reservation = Some(reservation);
        self
    }

    /// The three columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The batches, in order; all but the last have the same number of rows.
    #[must_use]
    pub fn batches(&self) -> &[CachedBatch] {
        &self.batches
    }

    /// Rows over all batches.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the batches' messages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The whole stream as it goes over the wire, lazily, sharing this shard's memory.
    pub(crate) fn frames(self: Arc<Self>) -> impl Iterator<Item = Bytes> + Send + 'static {
        let count = self.batches.len();
        let schema = self.schema_frame.clone();
        let batches = (0..count).flat_map(move |index| {
            let CachedBatch { head, body, .. } = &self.batches[index];
            [head.clone(), body.clone()]
        });
        std::iter::once(schema).chain(batches)
    }
}
