//! The data plane. Shards are cached once as Arrow and served as they lie in memory; models' states
//! are pulled from host to host; both are ordinary Arrow Flight streams that any client can read.
//!
//! ```text
//!            FlightPeer ── DoPut ─────────▶ FlightFront ─▶ tonic ─▶ receive ─▶ ShardStore
//!  (segment, supervisor, ── DoGet ────────▶     │ the bytes of a CachedShard or a StateBytes,
//!   pyarrow, ADBC, …)    ◀─────────────────────┘ uncopied, from the stores into the socket
//! ```
//!
//! `DoExchange` streams rows in and a model's predictions out (`exchange.rs`), if there is a
//! [`Predictor`].
//!
//! This crate owns streams and their limits. It never decides what is kept, what is dropped or who
//! pulls what: that is for the implementors of [`ShardStore`] and [`ModelStore`].

mod any_rows;
mod budget;
mod columns;
mod decode;
mod directory;
mod encode;
mod error;
mod exchange;
mod front;
mod info;
mod listen;
mod memory;
mod peer;
mod room;
mod select;
mod server;
mod shard;
mod shard_folder;
mod state;
mod store;
mod transport;
mod upload_file;
mod uploads;

pub use arrowhop_wire::tickets::{
    DataSetName, ModelTicket, PartPath, PartQuery, PredictRequest, PutReceipt, Selection,
    ShardHeader, ShardTicket, StoreStatus, StoredModel, StoredShard, Ticket, UploadName,
};
pub use budget::{ByteBudget, Reservation};
pub use directory::{LocatedShard, merge};
pub use error::FlightError;
pub use exchange::Predictor;
pub use front::FlightFront;
pub use info::{PartListing, SelectionListing};
pub use listen::{Listener, SocketFile, listen};
pub use memory::{MemoryModels, MemoryShards};
pub use peer::FlightPeer;
pub use server::FlightServer;
pub use shard::{CachedBatch, CachedShard, ReceiveLimits};
pub use shard_folder::{FolderEntry, ShardFolder};
pub use state::StateBytes;
pub use store::{ModelStore, ShardListing, ShardStore};
pub use transport::{Connection, MESSAGE_BYTES_MAX, connect, incoming, server_builder};
pub use uploads::{Contain, Uploads};
