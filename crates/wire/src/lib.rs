//! What crosses a process boundary: the generated protocol, and its translation to and from the
//! domain types. A message that does not translate is refused with the field's name; nothing is
//! guessed. This crate never opens a connection.

mod command;
mod convert;
mod data;
mod fact;
mod live;
mod optimizer;
mod record;
mod run;
pub mod status;
pub mod tickets;

/// The generated protocol of `schemas/control.proto`.
#[expect(missing_docs, clippy::all, clippy::too_many_lines, reason = "generated")]
pub mod control {
    tonic::include_proto!("arrowhop.control.v1");
}

pub use command::{Command, StartVisit};
pub use convert::WireError;
pub use data::{decode_data_set, encode_data_set};
pub use fact::{Fact, VisitOutcome, VisitReport};

/// Version of the control protocol. Peers of another version are refused by name.
pub const PROTOCOL: u32 = 2;
