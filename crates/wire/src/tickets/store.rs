//! Actions on a store: what it answers to `status`, and what `drop-data-set` names.

use arrowhop_types::{DataSetId, Digest, Problems};
use prost::Message;

use super::{ModelTicket, ShardTicket, UploadName, decode, digest, proto};

/// What the action `drop-data-set` drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropDataSet {
    /// All shards of a data set.
    DataSet(DataSetId),
    /// An uploaded table.
    Upload(UploadName),
}

/// What the action `status` answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStatus {
    /// Bytes that shards take, reservations included.
    pub used_bytes: u64,
    /// Bytes that shards may take.
    pub limit_bytes: u64,
    /// The shards that are kept, in order.
    pub shards: Vec<StoredShard>,
    /// The states that are kept, in order.
    pub models: Vec<StoredModel>,
}

/// A shard's part that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredShard {
    /// What it is.
    pub shard: ShardTicket,
    /// The data set's name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes in memory.
    pub bytes: u64,
}

/// A model's state that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredModel {
    /// What it is.
    pub model: ModelTicket,
    /// Its size.
    pub bytes: u64,
    /// Its blake3 digest.
    pub digest: Digest,
}

impl DropDataSet {
    /// Its bytes in a Flight action.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let action = match self {
            Self::DataSet(id) => {
                proto::DropDataSet { data_set: id.0.0.to_vec(), ..proto::DropDataSet::default() }
            }
            Self::Upload(name) => {
                proto::DropDataSet { upload: name.to_string(), ..proto::DropDataSet::default() }
            }
        };
        action.encode_to_vec()
    }
}

impl TryFrom<&[u8]> for DropDataSet {
    type Error = Problems;

    fn try_from(bytes: &[u8]) -> Result<Self, Problems> {
        let action: proto::DropDataSet = decode("drop-data-set", bytes)?;
        if action.upload.is_empty() {
            let id = digest("drop-data-set.data_set", &action.data_set)?;
            return Ok(Self::DataSet(DataSetId(id)));
        }
        if !action.data_set.is_empty() {
            let text = "names a data set and an upload; drop one at a time";
            return Err(Problems::one("drop-data-set", text));
        }
        action.upload.as_str().try_into().map(Self::Upload)
    }
}

impl StoreStatus {
    /// Its bytes in a Flight result.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let shard = |stored: &StoredShard| proto::StoredShard {
            shard: Some(stored.shard.into()),
            name: stored.name.clone(),
            rows: stored.rows,
            bytes: stored.bytes,
        };
        let model = |stored: &StoredModel| proto::StoredModel {
            model: Some(stored.model.into()),
            bytes: stored.bytes,
            digest: stored.digest.0.to_vec(),
        };
        proto::StoreStatus {
            used_bytes: self.used_bytes,
            limit_bytes: self.limit_bytes,
            shards: self.shards.iter().map(shard).collect(),
            models: self.models.iter().map(model).collect(),
        }
        .encode_to_vec()
    }
}

/// The transport's message limit bounds its length.
impl TryFrom<&[u8]> for StoreStatus {
    type Error = Problems;

    fn try_from(bytes: &[u8]) -> Result<Self, Problems> {
        let status = proto::StoreStatus::decode(bytes)
            .map_err(|error| Problems::one("status", error.to_string()))?;
        let shards = status.shards.into_iter().map(StoredShard::try_from);
        let models = status.models.into_iter().map(StoredModel::try_from);
        Ok(Self {
            used_bytes: status.used_bytes,
            limit_bytes: status.limit_bytes,
            shards: shards.collect::<Result<_, _>>()?,
            models: models.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<proto::StoredShard> for StoredShard {
    type Error = Problems;

    fn try_from(stored: proto::StoredShard) -> Result<Self, Problems> {
        let shard = stored.shard.ok_or_else(|| Problems::one("status.shards", "lack a shard"))?;
        let shard = shard.try_into()?;
        Ok(Self { shard, name: stored.name, rows: stored.rows, bytes: stored.bytes })
    }
}

impl TryFrom<proto::StoredModel> for StoredModel {
    type Error = Problems;

    fn try_from(stored: proto::StoredModel) -> Result<Self, Problems> {
        let model = stored.model.ok_or_else(|| Problems::one("status.models", "lack a model"))?;
        let digest = digest("status.models.digest", &stored.digest)?;
        Ok(Self { model: model.into(), bytes: stored.bytes, digest })
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{ModelId, Part, RunId, ShardId, Version};

    use super::*;

    #[test]
    fn a_status_goes_there_and_back() {
        let data_set = DataSetId(Digest([7; 32]));
        let status = StoreStatus {
            used_bytes: 5,
            limit_bytes: 9,
            shards: vec![StoredShard {
                shard: ShardTicket { data_set, shard: ShardId(0), part: Part::Train },
                name: "iris".into(),
                rows: 4,
                bytes: 5,
            }],
            models: vec![StoredModel {
                model: ModelTicket { run: RunId(1), model: ModelId(2), version: Version(3) },
                bytes: 77,
                digest: Digest([1; 32]),
            }],
        };
        assert_eq!(StoreStatus::try_from(status.encode().as_slice()), Ok(status));
        let upload = UploadName::try_from("people").unwrap();
        for drop in [DropDataSet::DataSet(data_set), DropDataSet::Upload(upload)] {
            assert_eq!(DropDataSet::try_from(drop.encode().as_slice()), Ok(drop));
        }
    }
}
