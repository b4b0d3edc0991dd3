//! A data set's description, there and back.

use arrowhop_types::{DataSet, Dtype, InputSpec, ShardInfo, Target};

use crate::WireError;
use crate::control as proto;
use crate::convert::{data_set_id, digest, present, shard, size};

impl From<DataSet> for proto::DataSet {
    fn from(data: DataSet) -> Self {
        Self {
            id: data.id.0.0.to_vec(),
            name: data.name,
            shape: data.input.shape.iter().map(|&extent| extent as u64).collect(),
            dtype: match data.input.dtype {
                Dtype::U8 => proto::Dtype::U8,
                Dtype::F32 => proto::Dtype::F32,
            }
            .into(),
            normalize: data.input.normalize,
            target: Some(data.target.into()),
            shards: data.shards.into_iter().map(Into::into).collect(),
            rows_digest: data.rows_digest.0.to_vec(),
            preparation: data.preparation,
        }
    }
}

impl TryFrom<proto::DataSet> for DataSet {
    type Error = WireError;

    fn try_from(data: proto::DataSet) -> Result<Self, WireError> {
        let shape: Result<_, _> =
            data.shape.iter().map(|&extent| size(extent, "data.shape")).collect();
        Ok(Self {
            id: data_set_id(&data.id)?,
            name: data.name,
            input: InputSpec {
                shape: shape?,
                dtype: match proto::Dtype::try_from(data.dtype) {
                    Ok(proto::Dtype::U8) => Dtype::U8,
                    Ok(proto::Dtype::F32) => Dtype::F32,
                    _ => {
                        let value = data.dtype.to_string();
                        return Err(WireError::Unknown { field: "data.dtype", value });
                    }
                },
                normalize: data.normalize,
            },
            target: present(data.target, "data.target")?.try_into()?,
            shards: data.shards.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            rows_digest: digest(&data.rows_digest, "data.rows_digest")?,
            preparation: data.preparation,
        })
    }
}

impl From<Target> for proto::Target {
    fn from(target: Target) -> Self {
        use proto::target::Kind;
        Self {
            kind: Some(match target {
                Target::Classes(names) => Kind::Classes(proto::ClassNames { names }),
                Target::Values(width) => Kind::Values(width as u64),
            }),
        }
    }
}

impl TryFrom<proto::Target> for Target {
    type Error = WireError;

    fn try_from(target: proto::Target) -> Result<Self, WireError> {
        use proto::target::Kind;
        Ok(match present(target.kind, "data.target.kind")? {
            Kind::Classes(classes) => Self::Classes(classes.names),
            Kind::Values(width) => Self::Values(size(width, "data.target.values")?),
        })
    }
}

impl From<ShardInfo> for proto::ShardInfo {
    fn from(info: ShardInfo) -> Self {
        Self {
            shard: info.shard.0,
            train_rows: info.train_rows,
            validation_rows: info.validation_rows,
            digest: info.digest.0.to_vec(),
        }
    }
}

impl TryFrom<proto::ShardInfo> for ShardInfo {
    type Error = WireError;

    fn try_from(info: proto::ShardInfo) -> Result<Self, WireError> {
        Ok(Self {
            shard: shard(info.shard),
            train_rows: info.train_rows,
            validation_rows: info.validation_rows,
            digest: digest(&info.digest, "data.shards.digest")?,
        })
    }
}
