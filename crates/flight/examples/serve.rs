//! Serves a toy data set and a model's state until it is interrupted, for any Flight client:
//!
//! ```text
//! cargo run -p arrowhop-flight --example serve
//! python -c 'import pyarrow.flight as f; c = f.connect("grpc://127.0.0.1:7411"); print(list(c.list_flights()))'
//! ```

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrowhop_flight::{
    CachedShard, FlightServer, MemoryModels, MemoryShards, ModelTicket, ShardHeader, ShardStore,
    ShardTicket, StateBytes, incoming, server_builder,
};
use arrowhop_types::{DataSetId, Digest, ModelId, Part, RunId, ShardId, Version};
use tokio::net::TcpListener;

const ADDRESS: &str = "127.0.0.1:7411";
const SHARDS: u32 = 2;
const ROWS: u16 = 1_000;
const FEATURES: i32 = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let shards = Arc::new(MemoryShards::new(1 << 30));
    let data_set = DataSetId(Digest(blake3::hash(b"toy").into()));
    for number in 0..SHARDS {
        let batch = toy_batch(number)?;
        let content = CachedShard::encode(batch.schema(), [batch])?;
        let shard = ShardTicket { data_set, shard: ShardId(number), part: Part::Train };
        let (rows, bytes) = (content.rows(), content.bytes());
        let reservation = shards.budget().reserve(bytes)?;
        let header = ShardHeader { shard, name: "toy".into(), rows, bytes };
        shards.put(header, content.hold(reservation)).await?;
    }
    let models = Arc::new(MemoryModels::default());
    let model = ModelTicket { run: RunId(1), model: ModelId(1), version: Version(0) };
    models.insert(model, StateBytes::new(vec![42; 10 << 20].into()));

    let listener = TcpListener::bind(ADDRESS).await?;
    let service = FlightServer::new(shards, models, format!("grpc://{ADDRESS}")).into_service();
    server_builder().add_service(service).serve_with_incoming(incoming(listener, 64)).await?;
    Ok(())
}

/// Rows whose class is their number's last digit, and whose features tell it.
fn toy_batch(shard: u32) -> Result<RecordBatch, Box<dyn Error>> {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let tensor = ("ARROW:extension:name".into(), "arrow.fixed_shape_tensor".into());
    let shape = ("ARROW:extension:metadata".into(), format!("{{\"shape\":[{FEATURES}]}}"));
    let x = Field::new("x", DataType::FixedSizeList(item.clone(), FEATURES), false);
    let schema = Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        x.with_metadata([tensor, shape].into()),
        Field::new("y", DataType::Int32, false),
    ]);
    let class = |row: u16| f32::from(row % 10);
    let features = (0..ROWS).flat_map(|row| (0..FEATURES).map(move |_| class(row)));
    let features = Arc::new(Float32Array::from_iter_values(features));
    let first = u64::from(shard) * u64::from(ROWS);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(first..first + u64::from(ROWS))),
        Arc::new(FixedSizeListArray::try_new(item, FEATURES, features, None)?),
        Arc::new(Int32Array::from_iter_values((0..ROWS).map(|row| i32::from(row % 10)))),
    ];
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}
