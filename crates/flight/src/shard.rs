//! A shard as it is cached: its rows as Arrow arrays, and the very same memory as messages that go
//! over the wire without being encoded again.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrowhop_types::Problems;
use arrowhop_wire::tickets::Selection;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tonic::Status;

use crate::columns::{check_batch, check_schema};
use crate::decode::{decode_batch, decode_schema};
use crate::encode::{Encoder, head, schema_header, wire_bytes};
use crate::room::Room;
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
    /// Batches so far, whether they are kept here or not, and the rows of the first and of the last.
    count: usize,
    batch_rows: Option<(usize, usize)>,
    room: Room,
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
            shard.push(&encoded.header, encoded.body.iter().map(Buffer::as_slice))?;
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
        Ok(Self {
            schema,
            schema_frame,
            batches: Vec::new(),
            count: 0,
            batch_rows: None,
            room: Room::default(),
            rows: 0,
            bytes: 0,
            reservation: None,
        })
    }

    /// Takes the next message of a stream, if the limits allow it.
    fn admit(&mut self, message: &FlightData, limits: ReceiveLimits) -> Result<(), Problems> {
        let arrived = wire_bytes(message.data_header.len(), message.data_body.len()) as u64;
        if self.bytes + arrived > limits.bytes {
            let text = format!("has more than the {} bytes that it may have", limits.bytes);
            return Err(Problems::one("shard", text));
        }
        self.push(&message.data_header, std::iter::once(&*message.data_body))?;
        match limits.rows {
            Some(rows) if self.rows > rows => {
                Err(Problems::one("shard", format!("has more than the {rows} rows announced")))
            }
            _ => Ok(()),
        }
    }

    /// Takes the next batch, whose body is copied.
    fn push<'a>(
        &mut self,
        header: &[u8],
        body: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<(), Problems> {
        let body = self.room.keep(body);
        self.push_body(header, body)
    }

    /// Takes the next batch, whose body stays where it is.
    pub(crate) fn push_body(&mut self, header: &[u8], body: Bytes) -> Result<(), Problems> {
        let place = |problems: Problems| {
            let mut placed = Problems::new();
            placed.extend(&format!("batch {}: ", self.count), &problems);
            placed
        };
        let batch = decode_batch(&self.schema, header, &body.clone().into()).map_err(place)?;
        self.check_rows(&batch).map_err(place)?;
        let head = head(header, body.len());
        let rows = batch.num_rows();
        self.count += 1;
        self.batch_rows = Some((self.batch_rows.map_or(rows, |(first, _)| first), rows));
        self.rows += rows as u64;
        self.bytes += (head.len() + body.len()) as u64;
        self.batches.push(CachedBatch { head, body, batch });
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

    /// Whether its bodies lie in a mapped file, rather than in reserved memory.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.reservation.is_none()
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

    /// Some columns and rows as a stream of their own. Each batch is encoded when its turn comes; its
    /// values are this shard's memory.
    pub(crate) fn selected(
        self: Arc<Self>,
        selection: &Selection,
    ) -> Result<impl Iterator<Item = Bytes> + Send + 'static, FlightError> {
        let (columns, rows) = self.check(selection)?;
        let schema = self.schema.project(&columns).map_err(FlightError::from)?;
        let mut encoder = Encoder::new(&schema)?;
        let batch_rows = self.batches.first().map_or(1, |first| first.batch.num_rows());
        let places = rows.start / batch_rows..=(rows.end - 1) / batch_rows;
        let batches = places.flat_map(move |index| {
            let first = index * batch_rows;
            let start = rows.start.max(first) - first;
            let end = rows.end.min(first + batch_rows) - first;
            let columns = self.batches[index].batch.project(&columns);
            let batch = columns.expect("the columns were checked").slice(start, end - start);
            encoder.encode(&batch).expect("a part of a cached batch can be encoded").into_frames()
        });
        Ok(std::iter::once(head(&schema_header(&schema), 0)).chain(batches))
    }

    /// A selection's columns and rows, if they are here.
    fn check(&self, selection: &Selection) -> Result<(Vec<usize>, Range<usize>), Problems> {
        let mut problems = Problems::new();
        let count = self.schema.fields().len();
        let columns: Vec<_> = selection.columns.iter().map(|&column| column as usize).collect();
        if columns.iter().any(|&column| column >= count) {
            let text = format!("are {columns:?}, but there are only {count}, from 0");
            problems.push("selection.columns", text);
        } else if columns.iter().collect::<BTreeSet<_>>().len() < columns.len() {
            problems.push("selection.columns", format!("are {columns:?}; ask for each once"));
        }
        let Range { start, end } = selection.rows;
        if end > self.rows {
            let text = format!("are {start} to {end}, but the shard has only {}", self.rows);
            problems.push("selection.rows", text);
        }
        problems.or(())?;
        let row = |row: u64| usize::try_from(row).expect("a shard's rows are in memory");
        let columns = if columns.is_empty() { (0..count).collect() } else { columns };
        Ok((columns, row(start)..row(end)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, FixedSizeListArray, Int32Array, UInt8Array, UInt64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrowhop_types::{DataSetId, Digest, Part, ShardId};
    use arrowhop_wire::tickets::ShardTicket;

    use super::*;

    const WIDTH: usize = 12;

    /// `rows` rows of `row`, `x` and `y`.
    fn batch(rows: usize) -> RecordBatch {
        let item = Arc::new(Field::new("item", DataType::UInt8, false));
        let width = i32::try_from(WIDTH).unwrap();
        let tensor = ("ARROW:extension:name".into(), "arrow.fixed_shape_tensor".into());
        let x = Field::new("x", DataType::FixedSizeList(Arc::clone(&item), width), false);
        let schema = Schema::new(vec![
            Field::new("row", DataType::UInt64, false),
            x.with_metadata([tensor].into()),
            Field::new("y", DataType::Int32, false),
        ]);
        let pixels = Arc::new(UInt8Array::from(vec![7; rows * WIDTH]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(vec![1; rows])),
            Arc::new(FixedSizeListArray::new(item, width, pixels, None)),
            Arc::new(Int32Array::from(vec![2; rows])),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    #[test]
    fn a_selection_s_values_are_the_shard_s_memory() {
        let batches = [batch(4_000), batch(4_000)];
        let shard = Arc::new(CachedShard::encode(batches[0].schema(), batches).unwrap());
        let ticket = ShardTicket {
            data_set: DataSetId(Digest([1; 32])),
            shard: ShardId(0),
            part: Part::Train,
        };
        let selection = Selection { shard: ticket, columns: vec![1, 2], rows: 1_000..7_000 };
        let frames: Vec<_> = Arc::clone(&shard).selected(&selection).unwrap().collect();
        // Of each batch 3,000 rows of 12 bytes, and of 4.
        let large: Vec<_> = frames.iter().filter(|frame| frame.len() >= 12_000).collect();
        let sizes: Vec<_> = large.iter().map(|frame| frame.len()).collect();
        assert_eq!(sizes, [36_000, 12_000, 36_000, 12_000]);
        for (index, frame) in large.iter().enumerate() {
            let body = shard.batches[index / 2].body.as_ptr_range();
            assert!(body.contains(&frame.as_ptr()), "frame {index} was copied");
        }
        let rest: usize = frames.iter().map(Bytes::len).sum::<usize>() - 96_000;
        assert!(rest < 4_000, "{rest} bytes besides the values");
    }
}
