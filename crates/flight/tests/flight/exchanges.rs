//! Rows in, predictions out: the stream's rules, with a predictor that doubles numbers.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError as ForeignError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{FlightData, FlightDescriptor};
use arrowhop_flight::{
    FlightError, FlightServer, MemoryModels, MemoryShards, PredictRequest, Predictor, connect,
    incoming, listen, server_builder,
};
use arrowhop_types::{ErrorClass, Problems};
use arrowhop_wire::status::class_of;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::toy::{LIMIT, Node, wait_until};

/// Doubles the numbers of run 1; answers those of run 2 a thousand times over.
#[derive(Debug, Default)]
struct Doubler {
    /// Batches that it gave away.
    given: AtomicU64,
    /// Exchanges that go on.
    active: AtomicUsize,
}

impl Predictor for Doubler {
    fn predict(
        &self,
        request: &PredictRequest,
        rows: &mut dyn Iterator<Item = Result<RecordBatch, FlightError>>,
        answers: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
    ) -> Result<(), FlightError> {
        self.active.fetch_add(1, Ordering::SeqCst);
        let ended = self.work(request, rows, answers);
        self.active.fetch_sub(1, Ordering::SeqCst);
        ended
    }
}

impl Doubler {
    fn work(
        &self,
        request: &PredictRequest,
        rows: &mut dyn Iterator<Item = Result<RecordBatch, FlightError>>,
        answers: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
    ) -> Result<(), FlightError> {
        let times = match request.run.0 {
            1 => 1,
            2 => 1_000,
            run => return Err(Problems::one(format!("run {run}"), "there is none").into()),
        };
        if answers(numbers([])).is_break() {
            return Ok(());
        }
        for batch in rows {
            let batch = batch?;
            let column = batch.column_by_name("n").ok_or_else(|| {
                FlightError::from(Problems::one("rows, column `n`", "there is no such column"))
            })?;
            let column = column.as_primitive::<Int64Type>();
            for _ in 0..times {
                if answers(numbers(column.values().iter().map(|n| 2 * n))).is_break() {
                    return Ok(());
                }
                self.given.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter([("n", column as _)]).unwrap()
}

/// A server that doubles, and a client of it.
async fn doubling() -> (Arc<Doubler>, FlightServiceClient<Channel>) {
    let (listener, uri) = listen("127.0.0.1:0", None).await.unwrap();
    let doubler = Arc::new(Doubler::default());
    let (shards, models) = (Arc::new(MemoryShards::new(0)), Arc::new(MemoryModels::default()));
    let server = FlightServer::new(shards, models, &*uri).with_predictor(doubler.clone());
    let service = server_builder().add_service(server.into_service());
    tokio::spawn(service.serve_with_incoming(incoming(listener, 16)));
    let client = FlightServiceClient::new(connect(&uri, LIMIT).await.unwrap());
    (doubler, client.max_decoding_message_size(64 << 20))
}

/// The messages of an exchange: batches of one schema after a descriptor.
fn exchange(run: &str, batches: Vec<RecordBatch>) -> Vec<FlightData> {
    let mut messages = batches_to_flight_data(&numbers([]).schema(), batches).unwrap();
    let path = ["predict", run, "best"].map(ToOwned::to_owned);
    messages[0].flight_descriptor = Some(FlightDescriptor::new_path(path.into()));
    messages
}

/// These messages, and then what is sent, until the sender is dropped: hyper leaves a call open as long
/// as there may be more to send.
fn open(
    messages: Vec<FlightData>,
) -> (mpsc::Sender<FlightData>, impl Stream<Item = FlightData> + Send + 'static) {
    let (send, sent) = mpsc::channel(1);
    let sent =
        stream::unfold(sent, async |mut sent| Some((mpsc::Receiver::recv(&mut sent).await?, sent)));
    (send, stream::iter(messages).chain(sent))
}

/// All numbers that come back.
async fn answered(stream: Streaming<FlightData>) -> Result<Vec<i64>, Status> {
    let stream = stream.map_err(|status| ForeignError::Tonic(Box::new(status)));
    let batches: Result<Vec<RecordBatch>, _> =
        FlightRecordBatchStream::new_from_flight_data(stream).try_collect().await;
    let batches = batches.map_err(|error| match error {
        ForeignError::Tonic(status) => *status,
        other => panic!("{other}"),
    })?;
    let values = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
    Ok(values.flat_map(|values| values.to_vec()).collect())
}

#[tokio::test]
async fn answers_come_while_rows_are_still_sent() {
    let (doubler, mut client) = doubling().await;
    let (send, outgoing) = open(Vec::new());
    let messages = exchange("1", vec![numbers([1, 2]), numbers([3])]);
    send.send(messages[0].clone()).await.unwrap();
    let mut stream = client.do_exchange(outgoing).await.unwrap().into_inner();
    // The answers' columns, before any row.
    assert!(!stream.message().await.unwrap().unwrap().data_header.is_empty());
    for message in &messages[1..] {
        send.send(message.clone()).await.unwrap();
        assert!(!stream.message().await.unwrap().unwrap().data_body.is_empty());
    }
    drop(send);
    assert!(stream.message().await.unwrap().is_none());
    wait_until(|| doubler.active.load(Ordering::SeqCst) == 0).await;

    let whole = client.do_exchange(stream::iter(messages)).await.unwrap().into_inner();
    assert_eq!(answered(whole).await.unwrap(), [2, 4, 6]);
    let none = client.do_exchange(stream::iter(exchange("1", Vec::new()))).await.unwrap();
    assert_eq!(answered(none.into_inner()).await.unwrap(), [0_i64; 0]);
}

/// The status that an exchange ends with.
async fn refusal(
    client: &mut FlightServiceClient<Channel>,
    messages: impl Stream<Item = FlightData> + Send + 'static,
) -> Status {
    match client.do_exchange(messages).await {
        Ok(stream) => answered(stream.into_inner()).await.unwrap_err(),
        Err(status) => status,
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_exchange_arrives_with_its_class() {
    let (doubler, mut client) = doubling().await;
    let sound = exchange("1", vec![numbers([1])]);
    let other = RecordBatch::try_from_iter([("m", numbers([1]).column(0).clone())]).unwrap();
    let mut absent = batches_to_flight_data(&other.schema(), vec![other.clone()]).unwrap();
    absent[0].flight_descriptor = sound[0].flight_descriptor.clone();
    let mut damaged = sound.clone();
    damaged[1].data_body = vec![0; 3].into();
    let mut unnamed = sound.clone();
    unnamed[0].flight_descriptor = None;
    for (messages, complaint) in [
        (Vec::new(), "descriptor: is absent"),
        (unnamed, "descriptor: is absent"),
        (exchange("none", Vec::new()), "descriptor.path[1]: is not the number of a run"),
        (exchange("7", Vec::new()), "run 7: there is none"),
        (absent, "rows, column `n`: there is no such column"),
        (damaged, "rows: have 3 bytes where 64 are announced"),
    ] {
        let status = refusal(&mut client, stream::iter(messages)).await;
        assert_eq!(class_of(&status), ErrorClass::Invalid, "{status}");
        assert!(status.message().starts_with(complaint), "{status}");
    }
    wait_until(|| doubler.active.load(Ordering::SeqCst) == 0).await;
    let mut nothing = Node::start(0).await.foreign().await;
    let status = refusal(&mut nothing, stream::iter(sound)).await;
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_not_worked_for_and_one_that_leaves_ends_the_work() {
    let (doubler, mut client) = doubling().await;
    // 160 kB, answered a thousand times over: far more than the windows.
    let (send, outgoing) = open(exchange("2", vec![numbers(0..20_000)]));
    let mut stream = client.do_exchange(outgoing).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let given = || doubler.given.load(Ordering::SeqCst);
    let mut before = u64::MAX;
    // Until it gives no more in a while.
    wait_until(|| {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        std::mem::replace(&mut before, given()) == given()
    })
    .await;
    assert!((1..100).contains(&given()), "{}", given());
    assert_eq!(doubler.active.load(Ordering::SeqCst), 1);
    drop((send, stream));
    wait_until(|| doubler.active.load(Ordering::SeqCst) == 0).await;
    assert!(given() < 100, "{}", given());
}

#[tokio::test]
async fn exchanges_beyond_the_limit_are_refused() {
    let (doubler, mut client) = doubling().await;
    let waiting = || open(exchange("1", Vec::new()));
    let mut streams = Vec::new();
    for _ in 0..8 {
        let (send, outgoing) = waiting();
        let mut stream = client.do_exchange(outgoing).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        streams.push((send, stream));
    }
    let (_send, outgoing) = waiting();
    let status = refusal(&mut client, outgoing).await;
    assert_eq!(class_of(&status), ErrorClass::Overloaded);
    assert_eq!(
        status.message(),
        "8 exchanges are going on already; begin again when one has ended"
    );
    drop(streams);
    wait_until(|| doubler.active.load(Ordering::SeqCst) == 0).await;
    let again = client.do_exchange(stream::iter(exchange("1", vec![numbers([4])]))).await.unwrap();
    assert_eq!(answered(again.into_inner()).await.unwrap(), [8]);
}
