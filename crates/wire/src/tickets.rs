//! `schemas/tickets.proto` and the domain types: what a Flight ticket, descriptor or action may
//! say. Everything that arrives is bounded before it is decoded and checked before it is believed.

use std::ops::Range;

use arrowhop_types::{DataSetId, Digest, ModelId, Part, Problems, RunId, ShardId, Version};
use prost::Message;

mod path;
mod predict;
mod query;
mod store;
mod upload;

use path::part_named;
pub use path::{DataSetName, PartPath};
pub use predict::PredictRequest;
pub use query::{PartQuery, QUERY_BYTES_MAX};
pub use store::{DropDataSet, StoreStatus, StoredModel, StoredShard};
pub use upload::{UPLOAD, UploadName};

#[expect(unreachable_pub, reason = "generated")]
mod proto {
    tonic::include_proto!("arrowhop.tickets.v1");
}

/// A longer ticket, descriptor or action than this is refused unread.
pub const TICKET_BYTES_MAX: usize = 1_024;
/// Longest name of a data set, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

const FORMAT: u32 = 1;

/// Names one part of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardTicket {
    /// The data set.
    pub data_set: DataSetId,
    /// The shard within it.
    pub shard: ShardId,
    /// The part of the shard.
    pub part: Part,
}

/// Some columns and rows of one part of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Of what.
    pub shard: ShardTicket,
    /// The columns by number, in the order of the answer, none twice; none at all for all.
    pub columns: Vec<u32>,
    /// The rows, counted within the shard; at least one.
    pub rows: Range<u64>,
}

/// Names one version of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelTicket {
    /// The run.
    pub run: RunId,
    /// The model within it.
    pub model: ModelId,
    /// The model's version.
    pub version: Version,
}

/// What can be asked for with `DoGet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ticket {
    /// A shard's batches.
    Shard(ShardTicket),
    /// Some columns and rows of a shard.
    Selection(Selection),
    /// A model's state.
    Model(ModelTicket),
    /// An uploaded table.
    Upload(UploadName),
}

/// Announces what a `DoPut` brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardHeader {
    /// What the rows are part of.
    pub shard: ShardTicket,
    /// The data set's name.
    pub name: String,
    /// How many rows follow, exactly.
    pub rows: u64,
    /// How many bytes of batches follow at most, their headers included.
    pub bytes: u64,
}

/// Says what a `DoPut` brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutReceipt {
    /// Rows that are now kept.
    pub rows: u64,
    /// Bytes that they take.
    pub bytes: u64,
}

impl Ticket {
    /// Its bytes in a Flight ticket.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let what = match self {
            Self::Shard(shard) => proto::ticket::What::Shard((*shard).into()),
            Self::Selection(selection) => proto::ticket::What::Selection(selection.clone().into()),
            Self::Model(model) => proto::ticket::What::Model((*model).into()),
            Self::Upload(name) => {
                proto::ticket::What::Upload(proto::Upload { name: name.to_string() })
            }
        };
        proto::Ticket { format: FORMAT, what: Some(what) }.encode_to_vec()
    }
}

impl TryFrom<&[u8]> for Ticket {
    type Error = Problems;

    fn try_from(bytes: &[u8]) -> Result<Self, Problems> {
        let ticket: proto::Ticket = decode("ticket", bytes)?;
        check_format("ticket.format", ticket.format)?;
        match ticket.what {
            Some(proto::ticket::What::Shard(shard)) => shard.try_into().map(Self::Shard),
            Some(proto::ticket::What::Selection(selection)) => {
                selection.try_into().map(Self::Selection)
            }
            Some(proto::ticket::What::Upload(upload)) => {
                upload.name.as_str().try_into().map(Self::Upload)
            }
            Some(proto::ticket::What::Model(model)) => Ok(Self::Model(model.into())),
            None => Err(Problems::one("ticket", "names neither a shard nor a model nor an upload")),
        }
    }
}

impl ShardHeader {
    /// Its bytes in a Flight descriptor's `cmd`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        proto::ShardHeader {
            format: FORMAT,
            shard: Some(self.shard.into()),
            name: self.name.clone(),
            rows: self.rows,
            bytes: self.bytes,
        }
        .encode_to_vec()
    }
}

impl TryFrom<&[u8]> for ShardHeader {
    type Error = Problems;

    fn try_from(bytes: &[u8]) -> Result<Self, Problems> {
        let header: proto::ShardHeader = decode("shard header", bytes)?;
        check_format("shard header.format", header.format)?;
        let shard = header.shard.ok_or_else(|| Problems::one("shard header", "lacks a shard"))?;
        let mut problems = Problems::new();
        if header.name.is_empty() || header.name.len() > NAME_BYTES_MAX {
            let text = format!("has {} bytes, not 1 to {NAME_BYTES_MAX}", header.name.len());
            problems.push("shard header.name", text);
        }
        if header.rows == 0 {
            problems.push("shard header.rows", "is 0: a shard that is put has at least one row");
        }
        let header = Self {
            shard: shard.try_into()?,
            name: header.name,
            rows: header.rows,
            bytes: header.bytes,
        };
        problems.or(header)
    }
}

impl PutReceipt {
    /// Its bytes in a Flight put result.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        proto::PutReceipt { rows: self.rows, bytes: self.bytes }.encode_to_vec()
    }
}

impl TryFrom<&[u8]> for PutReceipt {
    type Error = Problems;

    fn try_from(bytes: &[u8]) -> Result<Self, Problems> {
        let receipt: proto::PutReceipt = decode("put receipt", bytes)?;
        Ok(Self { rows: receipt.rows, bytes: receipt.bytes })
    }
}

impl From<ShardTicket> for proto::Shard {
    fn from(ticket: ShardTicket) -> Self {
        let part = match ticket.part {
            Part::Train => proto::Part::Train,
            Part::Validation => proto::Part::Validation,
        };
        Self { data_set: ticket.data_set.0.0.to_vec(), shard: ticket.shard.0, part: part.into() }
    }
}

impl TryFrom<proto::Shard> for ShardTicket {
    type Error = Problems;

    fn try_from(shard: proto::Shard) -> Result<Self, Problems> {
        let part = match shard.part() {
            proto::Part::Train => Part::Train,
            proto::Part::Validation => Part::Validation,
            proto::Part::Unspecified => {
                let text = format!("is {}, neither train (1) nor validation (2)", shard.part);
                return Err(Problems::one("shard.part", text));
            }
        };
        let data_set = DataSetId(digest("shard.data_set", &shard.data_set)?);
        Ok(Self { data_set, shard: ShardId(shard.shard), part })
    }
}

impl From<Selection> for proto::Selection {
    fn from(Selection { shard, columns, rows }: Selection) -> Self {
        let (rows_start, rows_end) = (rows.start, rows.end);
        Self { shard: Some(shard.into()), columns, rows_start, rows_end }
    }
}

impl TryFrom<proto::Selection> for Selection {
    type Error = Problems;

    fn try_from(selection: proto::Selection) -> Result<Self, Problems> {
        let proto::Selection { shard, columns, rows_start, rows_end } = selection;
        let shard = shard.ok_or_else(|| Problems::one("selection", "lacks a shard"))?;
        if rows_start >= rows_end {
            let text = format!("are {rows_start} to {rows_end}; ask for at least one");
            return Err(Problems::one("selection.rows", text));
        }
        Ok(Self { shard: shard.try_into()?, columns, rows: rows_start..rows_end })
    }
}

impl From<ModelTicket> for proto::Model {
    fn from(ticket: ModelTicket) -> Self {
        Self { run: ticket.run.0, model: ticket.model.0, version: ticket.version.0 }
    }
}

impl From<proto::Model> for ModelTicket {
    fn from(model: proto::Model) -> Self {
        Self { run: RunId(model.run), model: ModelId(model.model), version: Version(model.version) }
    }
}

/// Decodes a message of at most [`TICKET_BYTES_MAX`] bytes.
fn decode<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M, Problems> {
    if bytes.len() > TICKET_BYTES_MAX {
        let text = format!("has {} bytes, more than {TICKET_BYTES_MAX}", bytes.len());
        return Err(Problems::one(what, text));
    }
    M::decode(bytes).map_err(|error| {
        Problems::one(what, format!("is not as schemas/tickets.proto says: {error}"))
    })
}

fn check_format(place: &str, format: u32) -> Result<(), Problems> {
    if format == FORMAT {
        return Ok(());
    }
    let text = format!("is {format}, but only {FORMAT} is understood; use the same release");
    Err(Problems::one(place, text))
}

fn digest(place: &str, bytes: &[u8]) -> Result<Digest, Problems> {
    let digest = bytes
        .try_into()
        .map_err(|_| Problems::one(place, format!("has {} bytes instead of 32", bytes.len())))?;
    Ok(Digest(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard_ticket() -> ShardTicket {
        ShardTicket {
            data_set: DataSetId(Digest([7; 32])),
            shard: ShardId(3),
            part: Part::Validation,
        }
    }

    fn header(name: &str) -> ShardHeader {
        ShardHeader { shard: shard_ticket(), name: name.into(), rows: 10, bytes: 5_000 }
    }

    #[test]
    fn tickets_go_there_and_back() {
        let model = ModelTicket { run: RunId(1), model: ModelId(16), version: Version(u64::MAX) };
        let selection = Selection { shard: shard_ticket(), columns: vec![2, 0], rows: 5..u64::MAX };
        let upload = UploadName::try_from("people").unwrap();
        for ticket in [
            Ticket::Shard(shard_ticket()),
            Ticket::Selection(selection),
            Ticket::Model(model),
            Ticket::Upload(upload),
        ] {
            assert_eq!(Ticket::try_from(ticket.encode().as_slice()), Ok(ticket));
        }
        let header = header("cifar10");
        assert_eq!(ShardHeader::try_from(header.encode().as_slice()), Ok(header));
        let receipt = PutReceipt { rows: 10, bytes: 4_999 };
        assert_eq!(PutReceipt::try_from(receipt.encode().as_slice()), Ok(receipt));
    }

    #[test]
    fn what_a_ticket_lacks_is_named() {
        let refusal = |ticket: proto::Ticket| {
            Ticket::try_from(ticket.encode_to_vec().as_slice()).unwrap_err().to_string()
        };
        let shard = proto::Shard::from(shard_ticket());
        let what = |shard| Some(proto::ticket::What::Shard(shard));
        assert_eq!(
            refusal(proto::Ticket { format: 2, what: what(shard.clone()) }),
            "ticket.format: is 2, but only 1 is understood; use the same release"
        );
        assert_eq!(
            refusal(proto::Ticket { format: FORMAT, what: None }),
            "ticket: names neither a shard nor a model nor an upload"
        );
        let unnamed = proto::Shard { data_set: vec![7; 31], ..shard.clone() };
        assert_eq!(
            refusal(proto::Ticket { format: FORMAT, what: what(unnamed) }),
            "shard.data_set: has 31 bytes instead of 32"
        );
        assert_eq!(
            refusal(proto::Ticket {
                format: FORMAT,
                what: what(proto::Shard { part: 9, ..shard })
            }),
            "shard.part: is 9, neither train (1) nor validation (2)"
        );
        let nothing = Selection { shard: shard_ticket(), columns: Vec::new(), rows: 7..7 };
        assert_eq!(
            Ticket::try_from(Ticket::Selection(nothing).encode().as_slice())
                .unwrap_err()
                .to_string(),
            "selection.rows: are 7 to 7; ask for at least one"
        );
    }

    #[test]
    fn an_oversized_ticket_is_refused_unread() {
        let refusal = Ticket::try_from([0xff; TICKET_BYTES_MAX + 1].as_slice()).unwrap_err();
        assert_eq!(refusal.to_string(), "ticket: has 1025 bytes, more than 1024");
    }

    #[test]
    fn a_header_reports_all_its_problems() {
        let bad = ShardHeader { rows: 0, ..header("") }.encode();
        assert_eq!(ShardHeader::try_from(bad.as_slice()).unwrap_err().iter().count(), 2);
    }
}
