//! Hops: models' states, pulled by our client and by a foreign one.

use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError as ForeignError;
use arrowhop_flight::{
    FlightError, FlightPeer, MemoryShards, ModelStore, ModelTicket, StateBytes, StoredModel,
    connect,
};
use arrowhop_types::{Classify, Digest, ErrorClass};
use arrowhop_wire::tickets::Ticket;
use futures::TryStreamExt;

use crate::toy::{LIMIT, Node, model, serve};

const MIB: usize = 1 << 20;

fn state(bytes: usize) -> StateBytes {
    let pattern: Vec<u8> = (0..=250).rev().collect();
    StateBytes::new(pattern.into_iter().cycle().take(bytes).collect::<Vec<_>>().into())
}

#[tokio::test]
async fn a_state_goes_from_host_to_host() {
    let node = Node::start(0).await;
    let peer = node.peer().await;
    for (version, bytes) in [(0, 0), (1, 1), (2, 4 * MIB), (3, 9 * MIB + 7)] {
        node.models.insert(model(version), state(bytes));
        let pulled = peer.state(model(version), 10 << 20, LIMIT).await.unwrap();
        assert_eq!(pulled, state(bytes));
    }
}

#[tokio::test]
async fn a_foreign_client_reads_a_state_as_one_binary_column() {
    let node = Node::start(0).await;
    let sent = state(9 * MIB);
    node.models.insert(model(4), sent.clone());
    let ticket = arrow_flight::Ticket::new(Ticket::Model(model(4)).encode());
    let mut client = node.foreign().await.max_decoding_message_size(8 * MIB);
    let stream = client.do_get(ticket).await.unwrap().into_inner();
    let mut stream = FlightRecordBatchStream::new_from_flight_data(
        stream.map_err(|status| ForeignError::Tonic(Box::new(status))),
    );
    let mut chunks = Vec::new();
    while let Some(batch) = stream.try_next().await.unwrap() {
        chunks.push(batch.column(0).as_binary::<i64>().value(0).to_vec());
    }
    assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [4 * MIB, 4 * MIB, MIB]);
    assert_eq!(chunks.concat(), sent.bytes);
    let metadata = stream.schema().unwrap().metadata();
    for (key, value) in [
        ("run", "1"),
        ("model", "2"),
        ("version", "4"),
        ("bytes", "9437184"),
        ("digest", &*sent.digest.to_string()),
    ] {
        assert_eq!(metadata[key], value);
    }
}

#[tokio::test]
async fn a_damaged_state_is_not_believed() {
    let node = Node::start(0).await;
    let damaged = StateBytes { digest: Digest([3; 32]), ..state(5 * MIB) };
    node.models.insert(model(1), damaged);
    let error = node.peer().await.state(model(1), 10 << 20, LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable);
    let FlightError::WrongDigest { expected, found } = error else { panic!("{error}") };
    assert_eq!((expected, found), (Digest([3; 32]), state(5 * MIB).digest));
}

#[tokio::test]
async fn a_state_over_the_limit_is_refused_before_it_is_allocated() {
    let node = Node::start(0).await;
    node.models.insert(model(1), state(MIB + 1));
    let error = node.peer().await.state(model(1), 1 << 20, LIMIT).await.unwrap_err();
    assert!(matches!(error, FlightError::StateTooLarge { bytes: 1_048_577, limit: 1_048_576 }));
    assert_eq!(error.class(), ErrorClass::Overloaded);
}

#[tokio::test]
async fn a_missing_version_is_named() {
    let node = Node::start(0).await;
    node.models.insert(model(1), state(10));
    let error = node.peer().await.state(model(2), 1 << 20, LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Missing);
    let text = "fetch a model's state: no version 2 of model 2 of run 1 here";
    assert_eq!(error.to_string(), text);
    assert!(node.models.remove(model(1)) && !node.models.remove(model(1)));
}

#[tokio::test]
async fn a_peer_s_status_lists_its_states() {
    let node = Node::start(0).await;
    node.models.insert(model(1), state(10));
    let status = node.peer().await.status(LIMIT).await.unwrap();
    let [stored] = *status.models else { panic!("{status:?}") };
    assert_eq!((stored.model, stored.bytes, stored.digest), (model(1), 10, state(10).digest));
}

/// A store that takes states of up to 6 MiB.
#[derive(Default)]
struct Taker(Mutex<Vec<StateBytes>>);

#[tonic::async_trait]
impl ModelStore for Taker {
    async fn list(&self) -> Result<Vec<StoredModel>, FlightError> {
        Ok(Vec::new())
    }

    async fn state(&self, model: ModelTicket) -> Result<StateBytes, FlightError> {
        Err(FlightError::MissingModel(model))
    }

    fn put_bytes_max(&self) -> u64 {
        6 << 20
    }

    async fn put(&self, state: StateBytes) -> Result<(), FlightError> {
        self.0.lock().unwrap().push(state);
        Ok(())
    }
}

#[tokio::test]
async fn a_state_is_put_whole_or_not_at_all() {
    let taker = Arc::new(Taker::default());
    let uri = serve(Arc::new(MemoryShards::new(0)), taker.clone(), 4).await;
    let peer = FlightPeer::new(connect(&uri, LIMIT).await.unwrap());
    for bytes in [1, 5 * MIB] {
        peer.put_state(state(bytes), LIMIT).await.unwrap();
        assert_eq!(taker.0.lock().unwrap().pop(), Some(state(bytes)));
    }
    let damaged = StateBytes { digest: Digest([3; 32]), ..state(5 * MIB) };
    let error = peer.put_state(damaged, LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("was announced"), "{error}");
    let error = peer.put_state(state(6 * MIB + 1), LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("more than the 6291456"), "{error}");
    assert_eq!(*taker.0.lock().unwrap(), []);

    let node = Node::start(0).await;
    let error = node.peer().await.put_state(state(0), LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    assert!(error.to_string().contains("put them on the supervisor"), "{error}");
}
