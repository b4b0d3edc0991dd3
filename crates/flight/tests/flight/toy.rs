//! A small data set and a server for it.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Int32Array, UInt8Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, UInt8Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrowhop_flight::{
    FlightPeer, FlightServer, MemoryModels, MemoryShards, ModelStore, ModelTicket, ShardStore,
    ShardTicket, connect, incoming, server_builder,
};
use arrowhop_types::{DataSetId, Digest, ModelId, Part, RunId, ShardId, Version};
use arrowhop_wire::tickets::ShardHeader;
use tokio::net::TcpListener;
use tonic::transport::Channel;

/// Ample for every call of these tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
const ELEMENTS: usize = 12;

pub(crate) fn schema() -> SchemaRef {
    let item = Arc::new(Field::new("item", DataType::UInt8, false));
    let width = i32::try_from(ELEMENTS).unwrap();
    let tensor = [
        ("ARROW:extension:name", "arrow.fixed_shape_tensor"),
        ("ARROW:extension:metadata", "{\"shape\":[2,2,3]}"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    Arc::new(Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("x", DataType::FixedSizeList(item, width), false).with_metadata(tensor.into()),
        Field::new("y", DataType::Int32, false),
    ]))
}

/// Rows 0 to `rows`, in batches of `batch_rows`.
pub(crate) fn batches(rows: usize, batch_rows: usize) -> Vec<RecordBatch> {
    let batch = |start: usize| {
        let range = start as u64..rows.min(start + batch_rows) as u64;
        let pixels = range.clone().flat_map(|row| (0..ELEMENTS as u64).map(move |i| row * 7 + i));
        let pixels = UInt8Array::from_iter_values(pixels.map(|value| value.to_le_bytes()[0]));
        let DataType::FixedSizeList(item, width) = schema().field(1).data_type().clone() else {
            unreachable!("x is a list")
        };
        let classes = range.clone().map(|row| i32::try_from(row % 10).unwrap());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(range)),
            Arc::new(FixedSizeListArray::new(item, width, Arc::new(pixels), None)),
            Arc::new(Int32Array::from_iter_values(classes)),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    };
    (0..rows).step_by(batch_rows).map(batch).collect()
}

/// Digest of all rows, whatever their batches.
pub(crate) fn digest<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for batch in batches {
        let rows = batch.column(0).as_primitive::<UInt64Type>().values();
        let pixels = batch.column(1).as_fixed_size_list();
        let classes = batch.column(2).as_primitive::<Int32Type>().values();
        for index in 0..batch.num_rows() {
            hasher.update(&rows[index].to_le_bytes());
            hasher.update(pixels.value(index).as_primitive::<UInt8Type>().values());
            hasher.update(&classes[index].to_le_bytes());
        }
    }
    Digest(hasher.finalize().into())
}

pub(crate) fn shard(number: u32, part: Part) -> ShardTicket {
    ShardTicket { data_set: DataSetId(Digest([9; 32])), shard: ShardId(number), part }
}

pub(crate) fn header(rows: u64, bytes: u64) -> ShardHeader {
    ShardHeader { shard: shard(0, Part::Train), name: "toy".into(), rows, bytes }
}

pub(crate) fn model(version: u64) -> ModelTicket {
    ModelTicket { run: RunId(1), model: ModelId(2), version: Version(version) }
}

/// A server and its stores; it ends with the test's runtime.
pub(crate) struct Node {
    pub(crate) uri: String,
    pub(crate) shards: Arc<MemoryShards>,
    pub(crate) models: Arc<MemoryModels>,
}

impl Node {
    pub(crate) async fn start(bytes_max: u64) -> Self {
        Self::start_limited(bytes_max, 16).await
    }

    pub(crate) async fn start_limited(bytes_max: u64, connections_max: usize) -> Self {
        let shards = Arc::new(MemoryShards::new(bytes_max));
        let models = Arc::new(MemoryModels::default());
        let uri = serve(shards.clone(), models.clone(), connections_max).await;
        Self { uri, shards, models }
    }

    pub(crate) async fn channel(&self) -> Channel {
        connect(&self.uri, LIMIT).await.unwrap()
    }

    pub(crate) async fn peer(&self) -> FlightPeer {
        FlightPeer::new(self.channel().await)
    }

    /// A client that knows nothing of ours.
    pub(crate) async fn foreign(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel().await)
    }
}

/// Serves these stores until the test's runtime ends; says where.
pub(crate) async fn serve(
    shards: Arc<dyn ShardStore>,
    models: Arc<dyn ModelStore>,
    connections_max: usize,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("grpc://{}", listener.local_addr().unwrap());
    let server = FlightServer::new(shards, models, &*uri);
    let service = server_builder().add_service(server.into_service());
    tokio::spawn(service.serve_with_incoming(incoming(listener, connections_max)));
    uri
}

/// Waits for a state.
pub(crate) async fn wait_until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("the state came about");
}
