//! The client of another host's Flight service. Every call has a limit of time; dropping its future
//! cancels it at the other end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Criteria, FlightData, FlightDescriptor, FlightInfo};
use arrowhop_types::{DataSetId, Problems};
use arrowhop_wire::tickets::{
    DataSetName, DropDataSet, ModelTicket, PartPath, PartQuery, PutReceipt, ShardHeader,
    ShardTicket, StoreStatus, StoredShard, Ticket, UPLOAD, UploadName,
};
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::columns::{body_bytes_max, check_batch};
use crate::decode::{decode_batch, decode_schema};
use crate::encode::{Encoder, schema_header};
use crate::server::{DROP_DATA_SET, STATUS};
use crate::state::{StateBytes, StateReceiver};
use crate::upload_file::{END, encapsulated};
use crate::{
    CachedShard, FlightError, MESSAGE_BYTES_MAX, PartListing, ReceiveLimits, SelectionListing,
    ShardListing,
};

/// A batch's message has at most this many bytes besides its body.
const BATCH_HEAD_BYTES: usize = 1_024;

/// Another host's Flight service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FlightPeer {
    client: FlightServiceClient<Channel>,
}

impl FlightPeer {
    /// A peer behind a channel; see [`crate::connect`].
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        let client = FlightServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { client }
    }

    /// Puts one part of a shard on the peer. A batch is encoded when the peer has room for it.
    ///
    /// # Errors
    /// [`FlightError::Invalid`] when the batches are not as `arrowhop_types::DataSet` says, and
    /// what the peer answers: nothing of the shard is then kept there.
    pub async fn put_shard(
        &self,
        shard: ShardTicket,
        name: &str,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        limit: Duration,
    ) -> Result<PutReceipt, FlightError> {
        for (index, batch) in batches.iter().enumerate() {
            check_batch(&schema, index, batch)?;
        }
        let rows = batches.iter().map(RecordBatch::num_rows);
        let bytes = rows.clone().map(|rows| body_bytes_max(&schema, rows) + BATCH_HEAD_BYTES);
        let header = ShardHeader {
            shard,
            name: name.to_owned(),
            rows: rows.sum::<usize>() as u64,
            bytes: bytes.sum::<usize>() as u64,
        };
        let upload = upload(&header, &schema, batches)?;
        let mut client = self.client.clone();
        let results = within("put a shard", limit, async {
            client.do_put(upload).await?.into_inner().try_collect::<Vec<_>>().await
        });
        let results = results.await?;
        let receipt = results.first().map(|result| PutReceipt::try_from(&*result.app_metadata));
        Ok(receipt.ok_or_else(|| Problems::one("put receipt", "is absent"))??)
    }

    /// Reads one part of a shard, of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// What the peer answers, or [`FlightError::Invalid`] when that is not a shard.
    pub async fn shard(
        &self,
        shard: ShardTicket,
        bytes_max: u64,
        limit: Duration,
    ) -> Result<CachedShard, FlightError> {
        let limits = ReceiveLimits { bytes: bytes_max, rows: None };
        let action = "read a shard";
        timed(action, limit, async {
            let stream = self.open(action, Ticket::Shard(shard)).await?;
            CachedShard::receive(stream, limits).await
        })
        .await
    }

    /// What a query selects of a data set, and where to read it.
    ///
    /// # Errors
    /// What the peer answers, or [`FlightError::Invalid`] when that cannot be understood.
    pub async fn select(
        &self,
        query: &PartQuery,
        limit: Duration,
    ) -> Result<SelectionListing, FlightError> {
        let descriptor = FlightDescriptor::new_cmd(query.to_json());
        let mut client = self.client.clone();
        let info = within("describe a selection", limit, client.get_flight_info(descriptor));
        info.await?.into_inner().try_into()
    }

    /// Reads what a ticket of [`FlightPeer::select`] stands for, of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// What the peer answers, or [`FlightError::Invalid`] when that is not part of a shard.
    pub async fn batches(
        &self,
        ticket: Ticket,
        bytes_max: u64,
        limit: Duration,
    ) -> Result<Vec<RecordBatch>, FlightError> {
        let action = "read a selection";
        let peer = |status| FlightError::Peer { action, status };
        timed(action, limit, async {
            let mut stream = self.open(action, ticket).await?;
            let first = stream.message().await.map_err(peer)?;
            let first = first.ok_or_else(|| Problems::one("selection", "is an empty stream"))?;
            let schema = Arc::new(decode_schema(&first.data_header)?);
            let (mut batches, mut bytes) = (Vec::new(), 0_u64);
            while let Some(message) = stream.message().await.map_err(peer)? {
                bytes += message.data_body.len() as u64;
                if bytes > bytes_max {
                    let text = format!("has more than the {bytes_max} bytes that it may have");
                    return Err(Problems::one("selection", text).into());
                }
                let body = Buffer::from(message.data_body.as_ref());
                batches.push(decode_batch(&schema, &message.data_header, &body)?);
            }
            Ok(batches)
        })
        .await
    }

    /// Pulls a model's state, of at most `bytes_max` bytes, into one buffer, and verifies it.
    ///
    /// # Errors
    /// [`FlightError::StateTooLarge`] before anything is allocated, [`FlightError::WrongDigest`],
    /// and what the peer answers.
    pub async fn state(
        &self,
        model: ModelTicket,
        bytes_max: u64,
        limit: Duration,
    ) -> Result<StateBytes, FlightError> {
        let action = "fetch a model's state";
        let peer = |status| FlightError::Peer { action, status };
        timed(action, limit, async {
            let mut stream = self.open(action, Ticket::Model(model)).await?;
            let first = stream.message().await.map_err(peer)?;
            let first = first.ok_or_else(|| Problems::one("state", "is an empty stream"))?;
            let mut state = StateReceiver::new(&first, model, bytes_max)?;
            while let Some(message) = stream.message().await.map_err(peer)? {
                state.push(&message)?;
            }
            state.finish()
        })
        .await
    }

    /// Puts a state into the peer's model store, under its digest.
    ///
    /// # Errors
    /// What the peer answers: nothing of the state is then kept there.
    pub async fn put_state(&self, state: StateBytes, limit: Duration) -> Result<(), FlightError> {
        let upload = stream::iter(state.upload()).boxed();
        let mut client = self.client.clone();
        let results = within("put a model's state", limit, async {
            client.do_put(upload).await?.into_inner().try_collect::<Vec<_>>().await
        });
        results.await.map(drop)
    }

    /// The parts of data sets that the peer has, or of the one named.
    ///
    /// # Errors
    /// What the peer answers, or [`FlightError::Invalid`] when that cannot be understood.
    pub async fn list(
        &self,
        data_set: Option<&DataSetName>,
        limit: Duration,
    ) -> Result<Vec<PartListing>, FlightError> {
        let expression = match data_set {
            None => String::new(),
            Some(DataSetName::Id(id)) => id.to_string(),
            Some(DataSetName::Name(name)) => name.clone(),
        };
        let mut client = self.client.clone();
        let flights = within("list data sets", limit, async {
            let criteria = Criteria { expression: expression.into() };
            client.list_flights(criteria).await?.into_inner().try_collect::<Vec<_>>().await
        });
        let is_part = |flight: &FlightInfo| {
            let path =
                flight.flight_descriptor.as_ref().map(|descriptor| descriptor.path.as_slice());
            path.is_none_or(|path| path.first().is_none_or(|first| first != UPLOAD))
        };
        let parts = flights.await?.into_iter().filter(is_part);
        parts.map(PartListing::try_from).collect()
    }

    /// What the peer keeps, and in how much memory.
    ///
    /// # Errors
    /// What the peer answers, or [`FlightError::Invalid`] when that cannot be understood.
    pub async fn status(&self, limit: Duration) -> Result<StoreStatus, FlightError> {
        let results = self.act(STATUS, Vec::new(), limit).await?;
        let result = results.first().ok_or_else(|| Problems::one("status", "is absent"))?;
        Ok(StoreStatus::try_from(&*result.body)?)
    }

    /// Every shard that the peer keeps. One that comes or goes meanwhile may be left out.
    ///
    /// # Errors
    /// What the peer answers, or [`FlightError::Invalid`] when that cannot be understood.
    pub async fn shards(&self, limit: Duration) -> Result<Vec<ShardListing>, FlightError> {
        let (parts, status) = future::try_join(self.list(None, limit), self.status(limit)).await?;
        let schemas: BTreeMap<_, _> =
            parts.into_iter().map(|part| (part.path.to_path(), Arc::new(part.schema))).collect();
        let listing = |stored: StoredShard| {
            let StoredShard { shard, name, rows, bytes } = stored;
            let path = PartPath { data_set: DataSetName::Id(shard.data_set), part: shard.part };
            let schema = Arc::clone(schemas.get(&path.to_path())?);
            Some(ShardListing { shard, name, rows, bytes, schema })
        };
        Ok(status.shards.into_iter().filter_map(listing).collect())
    }

    /// Makes the peer drop a data set.
    ///
    /// # Errors
    /// What the peer answers.
    pub async fn drop_data_set(
        &self,
        data_set: DataSetId,
        limit: Duration,
    ) -> Result<(), FlightError> {
        self.act(DROP_DATA_SET, DropDataSet::DataSet(data_set).encode(), limit).await.map(drop)
    }

    /// Reads an upload into a file of Arrow's stream format; the one there is replaced.
    ///
    /// # Errors
    /// What the peer answers; [`FlightError::File`] where it cannot be written.
    pub async fn fetch_upload(
        &self,
        name: UploadName,
        path: &Path,
        limit: Duration,
    ) -> Result<(), FlightError> {
        let action = "fetch an upload";
        let failed = |source| FlightError::File { path: path.to_owned(), source };
        timed(action, limit, async {
            let mut stream = self.open(action, Ticket::Upload(name)).await?;
            let mut file = File::create(path).map_err(failed)?;
            let peer = |status| FlightError::Peer { action, status };
            while let Some(FlightData { data_header, data_body, .. }) =
                stream.message().await.map_err(peer)?
            {
                for piece in encapsulated(&data_header, &data_body) {
                    file.write_all(&piece).map_err(failed)?;
                }
            }
            file.write_all(END).map_err(failed)
        })
        .await
    }

    async fn act(
        &self,
        action: &'static str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<arrow_flight::Result>, FlightError> {
        let mut client = self.client.clone();
        within(action, limit, async {
            client.do_action(Action::new(action, body)).await?.into_inner().try_collect().await
        })
        .await
    }

    async fn open(
        &self,
        action: &'static str,
        ticket: Ticket,
    ) -> Result<Streaming<FlightData>, FlightError> {
        let ticket = arrow_flight::Ticket::new(ticket.encode());
        let response = self.client.clone().do_get(ticket).await;
        Ok(response.map_err(|status| FlightError::Peer { action, status })?.into_inner())
    }
}

/// The messages of an upload; each batch is encoded when it is asked for.
fn upload(
    header: &ShardHeader,
    schema: &SchemaRef,
    batches: Vec<RecordBatch>,
) -> Result<impl Stream<Item = FlightData> + Send + 'static, FlightError> {
    let first = FlightData {
        flight_descriptor: Some(FlightDescriptor::new_cmd(header.encode())),
        data_header: schema_header(schema),
        ..FlightData::default()
    };
    let mut encoder = Encoder::new(schema)?;
    let batches = batches.into_iter().map(move |batch| {
        encoder.encode(&batch).expect("a batch that was checked can be encoded").into_message()
    });
    Ok(stream::iter(std::iter::once(first).chain(batches)))
}

/// Bounds a call that fails with a status.
async fn within<T>(
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, FlightError> {
    timed(action, limit, async {
        call.await.map_err(|status| FlightError::Peer { action, status })
    })
    .await
}

async fn timed<T>(
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, FlightError>>,
) -> Result<T, FlightError> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(FlightError::TimedOut { action, limit }))
}
