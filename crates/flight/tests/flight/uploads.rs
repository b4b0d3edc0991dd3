//! Tables that clients upload: kept whole or not at all, within their limit, over restarts.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::reader::StreamReader;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{FlightData, FlightDescriptor};
use arrowhop_flight::{
    FlightError, FlightPeer, FlightServer, MemoryModels, MemoryShards, UploadName, Uploads,
    connect, incoming, listen, server_builder,
};
use arrowhop_types::{Classify, ErrorClass};
use arrowhop_wire::status::class_of;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::toy::{LIMIT, Node, wait_until};

fn contain(work: &mut dyn FnMut()) -> Result<(), FlightError> {
    work();
    Ok(())
}

/// A server that keeps uploads in a folder, while this lives.
struct Keeper {
    uri: String,
    serving: JoinHandle<()>,
}

impl Keeper {
    async fn start(folder: &Path, limit: u64) -> Self {
        let (listener, uri) = listen("127.0.0.1:0", None).await.unwrap();
        let uploads = Arc::new(Uploads::open(folder, limit, contain).unwrap());
        let (shards, models) = (Arc::new(MemoryShards::new(0)), Arc::new(MemoryModels::default()));
        let server = FlightServer::new(shards, models, &*uri).with_uploads(uploads);
        let service = server_builder().add_service(server.into_service());
        let serving = service.serve_with_incoming(incoming(listener, 16));
        Self { uri, serving: tokio::spawn(async { serving.await.unwrap() }) }
    }

    async fn peer(&self) -> FlightPeer {
        FlightPeer::new(connect(&self.uri, LIMIT).await.unwrap())
    }

    async fn put(&self, messages: Vec<FlightData>) -> Result<(), Status> {
        let mut client = FlightServiceClient::new(connect(&self.uri, LIMIT).await.unwrap());
        let results = client.do_put(stream::iter(messages)).await?.into_inner();
        results.try_collect::<Vec<_>>().await.map(drop)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn people(rows: i64) -> RecordBatch {
    let names = StringArray::from_iter((0..rows).map(|i| (i % 3 > 0).then(|| format!("n{i}"))));
    let ages = Int64Array::from_iter_values(0..rows);
    let columns: [(&str, ArrayRef, bool); 2] =
        [("name", Arc::new(names), true), ("age", Arc::new(ages), false)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn upload(name: &str, batches: Vec<RecordBatch>) -> Vec<FlightData> {
    let mut messages = batches_to_flight_data(&people(0).schema(), batches).unwrap();
    let path = ["upload", name].map(ToOwned::to_owned);
    messages[0].flight_descriptor = Some(FlightDescriptor::new_path(path.into()));
    messages
}

/// What the folder holds.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn fetched(keeper: &Keeper, name: &str, to: &Path) -> Result<Vec<RecordBatch>, FlightError> {
    let name = UploadName::try_from(name).unwrap();
    keeper.peer().await.fetch_upload(name, to, LIMIT).await?;
    let reader = StreamReader::try_new(std::fs::File::open(to).unwrap(), None).unwrap();
    Ok(reader.map(Result::unwrap).collect())
}

#[tokio::test]
async fn an_upload_is_kept_over_a_restart_and_read_as_it_was() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keeper = Keeper::start(folder.path(), 1 << 20).await;
    let batches = vec![people(500), people(0), people(7)];
    keeper.put(upload("people", batches.clone())).await.unwrap();
    assert_eq!(files(folder.path()), ["people.arrow"]);
    drop(keeper);

    std::fs::write(folder.path().join("people.3.part"), "half").unwrap();
    let keeper = Keeper::start(folder.path(), 1 << 20).await;
    assert_eq!(files(folder.path()), ["people.arrow"]);
    let to = other.path().join("fetched");
    assert_eq!(fetched(&keeper, "people", &to).await.unwrap(), batches);
    // It is a file that any Arrow library reads.
    let file = std::fs::File::open(folder.path().join("people.arrow")).unwrap();
    let read: Vec<_> = StreamReader::try_new(file, None).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, batches);
    // Uploads are no parts of data sets.
    assert_eq!(keeper.peer().await.list(None, LIMIT).await.unwrap(), []);
    let missing = fetched(&keeper, "nobody", &to).await.unwrap_err();
    assert_eq!(missing.class(), ErrorClass::Missing);
}

#[tokio::test]
async fn what_is_no_upload_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::start(folder.path(), 10_000).await;
    let sound = upload("people", vec![people(100)]);
    let mut damaged = sound.clone();
    damaged[1].data_header = vec![9; 64].into();
    for (messages, class, complaint) in [
        (upload("a/b", vec![people(1)]), ErrorClass::Invalid, "upload a/b: has other characters"),
        (damaged, ErrorClass::Invalid, "rows: is not an Arrow IPC message"),
        (sound[1..].to_vec(), ErrorClass::Invalid, "descriptor.cmd: lacks a shard header"),
        (upload("people", vec![people(2_000)]), ErrorClass::Overloaded, "bytes do not fit"),
    ] {
        let status = keeper.put(messages).await.unwrap_err();
        assert_eq!(class_of(&status), class, "{status}");
        assert!(status.message().contains(complaint), "{status}");
        assert_eq!(files(folder.path()), [""; 0]);
    }
    keeper.put(sound.clone()).await.unwrap();
    let status = keeper.put(sound.clone()).await.unwrap_err();
    assert_eq!(class_of(&status), ErrorClass::Conflict);
    assert_eq!(files(folder.path()), ["people.arrow"]);

    let node = Node::start(0).await;
    let status = node.foreign().await.do_put(stream::iter(sound)).await.unwrap_err();
    assert_eq!(status.message(), "upload: is for a supervisor, which takes them");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_uploader_that_leaves_halfway_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::start(folder.path(), 1 << 20).await;
    let mut client = FlightServiceClient::new(connect(&keeper.uri, LIMIT).await.unwrap());
    let half = stream::iter(upload("people", vec![people(100)])).chain(stream::pending());
    let put = tokio::spawn(async move { client.do_put(half).await });
    wait_until(|| files(folder.path()).len() == 1).await;
    assert_eq!(files(folder.path()), ["people.0.part"]);
    put.abort();
    wait_until(|| files(folder.path()).is_empty()).await;
    // What it had reserved is free again.
    keeper.put(upload("people", vec![people(100)])).await.unwrap();
    assert_eq!(files(folder.path()), ["people.arrow"]);
}
