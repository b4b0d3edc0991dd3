//! The Flight service over a segment's stores. Its methods translate and pass on; what is kept is
//! decided by the stores, and `DoGet` is answered at the front.

use std::fmt;
use std::sync::Arc;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use arrowhop_types::Problems;
use arrowhop_wire::tickets::{
    DataSetName, DropDataSet, PutReceipt, ShardHeader, StoreStatus, StoredShard, UploadName,
};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::exchange::{Exchanges, Predictor};
use crate::front::{BrokeOff, FlightFront};
use crate::info::{by_part, flight_info, is_named, upload_info};
use crate::select::{SelectedPart, find, query_of};
use crate::shard_folder::{NewShardFile, blocking};
use crate::state::{OFFERED, STATE_PATH, StateReceiver};
use crate::{
    CachedShard, FlightError, MESSAGE_BYTES_MAX, ModelStore, ReceiveLimits, ShardFolder,
    ShardStore, Uploads,
};

/// Action that answers a [`StoreStatus`].
pub(crate) const STATUS: &str = "status";
/// Action that takes a [`DropDataSet`].
pub(crate) const DROP_DATA_SET: &str = "drop-data-set";

/// Serves the shards and states of one process.
#[derive(Clone)]
pub struct FlightServer {
    pub(crate) shards: Arc<dyn ShardStore>,
    pub(crate) models: Arc<dyn ModelStore>,
    exchanges: Option<Exchanges>,
    uploads: Option<Arc<Uploads>>,
    location: String,
}

impl FlightServer {
    /// A server over these stores that clients reach at `location`, such as
    /// `grpc://10.0.0.7:7410`.
    pub fn new(
        shards: Arc<dyn ShardStore>,
        models: Arc<dyn ModelStore>,
        location: impl Into<String>,
    ) -> Self {
        Self { shards, models, exchanges: None, uploads: None, location: location.into() }
    }

    /// Answers exchanges with what this predicts.
    #[must_use]
    pub fn with_predictor(self, predictor: Arc<dyn Predictor>) -> Self {
        Self { exchanges: Some(Exchanges::new(predictor)), ..self }
    }

    /// Takes uploads, too.
    #[must_use]
    pub fn with_uploads(self, uploads: Arc<Uploads>) -> Self {
        Self { uploads: Some(uploads), ..self }
    }

    /// The uploads, on a server that takes some.
    pub(crate) fn uploads(&self) -> Result<&Arc<Uploads>, FlightError> {
        let text = "is for a supervisor, which takes them";
        self.uploads.as_ref().ok_or_else(|| Problems::one("upload", text).into())
    }

    /// What a descriptor stands for: an upload, or a part of a data set.
    async fn describe(&self, descriptor: &FlightDescriptor) -> Result<FlightInfo, FlightError> {
        if let Some(name) = UploadName::of_path(&descriptor.path)? {
            return Ok(upload_info(&self.uploads()?.find(&name)?, &self.location));
        }
        flight_info(&self.find(descriptor).await?, &self.location)
    }

    /// The service to add to [`crate::server_builder`].
    #[must_use]
    pub fn into_service(self) -> FlightFront {
        let server = Arc::new(self);
        let tonic = FlightServiceServer::from_arc(Arc::clone(&server))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        FlightFront::new(tonic, server)
    }

    async fn find(&self, descriptor: &FlightDescriptor) -> Result<SelectedPart, FlightError> {
        let query = query_of(descriptor)?;
        let part = find(&query.path, self.shards.locate().await?)?;
        Ok(SelectedPart::select(part, query)?)
    }

    /// Receives a shard or a state: the first message's descriptor tells which.
    async fn receive(
        &self,
        mut stream: impl Stream<Item = Result<FlightData, Status>> + Unpin,
        broke_off: &BrokeOff,
    ) -> Result<PutReceipt, FlightError> {
        let first = stream.next().await.ok_or_else(no_header)?;
        let first = first.map_err(received)?;
        let descriptor = first.flight_descriptor.as_ref().ok_or_else(no_header)?;
        if descriptor.path == [STATE_PATH] {
            self.receive_state(first, stream).await
        } else if let Some(name) = UploadName::of_path(&descriptor.path)? {
            self.uploads()?.receive(name, first, stream, broke_off).await
        } else {
            self.receive_shard(first, stream).await
        }
    }

    /// Receives one state, of at most as many bytes as the store takes.
    async fn receive_state(
        &self,
        first: FlightData,
        mut stream: impl Stream<Item = Result<FlightData, Status>> + Unpin,
    ) -> Result<PutReceipt, FlightError> {
        let mut state = StateReceiver::new(&first, OFFERED, self.models.put_bytes_max())?;
        while let Some(message) = stream.next().await {
            state.push(&message.map_err(received)?)?;
        }
        let state = state.finish()?;
        let receipt = PutReceipt { rows: 0, bytes: state.bytes.len() as u64 };
        self.models.put(state).await?;
        Ok(receipt)
    }

    /// Receives one shard. Whatever goes wrong, nothing of it stays.
    async fn receive_shard(
        &self,
        first: FlightData,
        stream: impl Stream<Item = Result<FlightData, Status>> + Unpin,
    ) -> Result<PutReceipt, FlightError> {
        let descriptor = first.flight_descriptor.as_ref().ok_or_else(no_header)?;
        let header = ShardHeader::try_from(&*descriptor.cmd)?;
        let limits = ReceiveLimits { bytes: header.bytes, rows: Some(header.rows) };
        let stream = stream::iter([Ok(first)]).chain(stream);
        let content = match self.new_file(&header).await? {
            Some((folder, file)) => {
                CachedShard::receive_into(file, stream, limits).await?;
                let (shard, budget) = (header.shard, Arc::clone(self.shards.budget()));
                blocking(move || folder.open(shard, &budget)).await?
            }
            None => {
                let mut reservation = self.shards.reserve(&header).await?;
                let content = CachedShard::receive(stream, limits).await?;
                reservation.shrink_to(content.bytes());
                content.hold(reservation)
            }
        };
        let receipt = PutReceipt { rows: content.rows(), bytes: content.bytes() };
        self.shards.put(header, content).await?;
        Ok(receipt)
    }

    /// A file for a shard, where there is a folder with room for it; else it must fit into memory.
    async fn new_file(
        &self,
        header: &ShardHeader,
    ) -> Result<Option<(ShardFolder, NewShardFile)>, FlightError> {
        let Some(folder) = self.shards.folder().cloned() else { return Ok(None) };
        let in_use = self.shards.in_use().await?;
        let (own, begun) = (folder.clone(), header.clone());
        let file = blocking(move || own.write(begun.shard, &begun.name, begun.bytes, &in_use));
        match file.await {
            Ok(file) => Ok(Some((folder, file))),
            Err(FlightError::Full { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn status(&self) -> Result<StoreStatus, FlightError> {
        let shards = self.shards.list().await?.into_iter().map(|listing| StoredShard {
            shard: listing.shard,
            name: listing.name,
            rows: listing.rows,
            bytes: listing.bytes,
        });
        Ok(StoreStatus {
            used_bytes: self.shards.budget().used(),
            limit_bytes: self.shards.budget().limit(),
            shards: shards.collect(),
            models: self.models.list().await?,
        })
    }
}

#[tonic::async_trait]
impl FlightService for FlightServer {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let mut shards = self.shards.locate().await?;
        let mut uploads = self.uploads.as_ref().map_or_else(Vec::new, |uploads| uploads.list());
        let criterion = request.into_inner().expression;
        if !criterion.is_empty() {
            let name = named(&criterion)?;
            shards.retain(|shard| is_named(&shard.listing, &name));
            uploads.retain(|upload| DataSetName::Name(upload.name.to_string()) == name);
        }
        let parts = by_part(shards).into_values();
        let flights: Result<Vec<_>, _> =
            parts.map(|part| flight_info(&SelectedPart::whole(part), &self.location)).collect();
        let mut flights = flights?;
        flights.extend(uploads.iter().map(|upload| upload_info(upload, &self.location)));
        Ok(Response::new(stream::iter(flights.into_iter().map(Ok)).boxed()))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Ok(Response::new(self.describe(request.get_ref()).await?))
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let schema = self.describe(request.get_ref()).await?.schema;
        Ok(Response::new(SchemaResult { schema }))
    }

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Err(Status::unimplemented(
            "DoGet is answered at the front; serve what into_service returns",
        ))
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let broke_off = request.extensions().get::<BrokeOff>().cloned().unwrap_or_default();
        let receipt = self.receive(request.into_inner(), &broke_off).await?;
        let result = PutResult { app_metadata: receipt.encode().into() };
        Ok(Response::new(stream::iter([Ok(result)]).boxed()))
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let action = request.into_inner();
        let results = match action.r#type.as_str() {
            STATUS => vec![Ok(arrow_flight::Result::new(self.status().await?.encode()))],
            DROP_DATA_SET => {
                let drop = DropDataSet::try_from(&*action.body).map_err(FlightError::from)?;
                match drop {
                    DropDataSet::DataSet(data_set) => self.shards.drop_data_set(data_set).await?,
                    DropDataSet::Upload(name) => {
                        let uploads = Arc::clone(self.uploads()?);
                        let dropping =
                            tokio::task::spawn_blocking(move || uploads.drop_upload(&name));
                        dropping.await.expect("dropping an upload does not panic")?;
                    }
                }
                Vec::new()
            }
            other => {
                let text = format!("no action {other:.100}; use {STATUS} or {DROP_DATA_SET}");
                return Err(Status::unimplemented(text));
            }
        };
        Ok(Response::new(stream::iter(results).boxed()))
    }

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let actions = [
            (STATUS, "what is kept: no body; answers tickets.proto's StoreStatus"),
            (
                DROP_DATA_SET,
                "drops a data set's shards, or an upload: body is tickets.proto's DropDataSet",
            ),
        ]
        .map(|(name, description)| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        });
        Ok(Response::new(stream::iter(actions).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("no handshake is needed; call any other method"))
    }

    /// What is listed is ready.
    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let info = Some(self.describe(request.get_ref()).await?);
        Ok(Response::new(PollInfo { info, progress: Some(1.0), ..PollInfo::default() }))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let Some(exchanges) = &self.exchanges else {
            return Err(Status::unimplemented("nothing predicts here; ask the supervisor"));
        };
        Ok(Response::new(exchanges.begin(request.into_inner()).await?.boxed()))
    }
}

impl fmt::Debug for FlightServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightServer").field("location", &self.location).finish_non_exhaustive()
    }
}

fn no_header() -> Problems {
    Problems::one("descriptor.cmd", "lacks a shard header; see tickets.proto")
}

fn received(status: Status) -> FlightError {
    FlightError::Peer { action: "receive", status }
}

/// The data set that a criterion names.
fn named(criterion: &[u8]) -> Result<DataSetName, FlightError> {
    let text = std::str::from_utf8(criterion)
        .map_err(|_| Problems::one("criteria", "are not text; use a data set's name or id"))?;
    Ok(text.try_into()?)
}
