//! A data set's description, there and back.

use arrowhop_types::{
    ClassList, DataSet, Dtype, Encoding, InputSpec, ShardInfo, SourceRecord, Target, TargetColumn,
    TestRows,
};

use prost::Message;

use crate::WireError;
use crate::control as proto;
use crate::convert::{data_set_id, digest, present, shard, size};

/// A data set's description as the bytes of `control.proto`'s `DataSet`.
#[must_use]
pub fn encode_data_set(data: DataSet) -> Vec<u8> {
    proto::DataSet::from(data).encode_to_vec()
}

/// Reads what [`encode_data_set`] wrote.
///
/// # Errors
/// [`WireError`] where the bytes are another thing.
pub fn decode_data_set(bytes: &[u8]) -> Result<DataSet, WireError> {
    let malformed = |_| WireError::Absent { field: "a data set's description" };
    proto::DataSet::decode(bytes).map_err(malformed)?.try_into()
}

impl From<DataSet> for proto::DataSet {
    fn from(data: DataSet) -> Self {
        Self {
            id: data.id.0.0.to_vec(),
            name: data.name,
            inputs: data.inputs.into_iter().map(Into::into).collect(),
            targets: data.targets.into_iter().map(Into::into).collect(),
            shards: data.shards.into_iter().map(Into::into).collect(),
            rows_digest: data.rows_digest.0.to_vec(),
            preparation: data.preparation,
            test: data
                .test
                .map(|test| proto::TestRows { rows: test.rows, digest: test.digest.0.to_vec() }),
        }
    }
}

impl TryFrom<proto::DataSet> for DataSet {
    type Error = WireError;

    fn try_from(data: proto::DataSet) -> Result<Self, WireError> {
        Ok(Self {
            id: data_set_id(&data.id)?,
            name: data.name,
            inputs: data.inputs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            targets: data.targets.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            shards: data.shards.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            rows_digest: digest(&data.rows_digest, "data.rows_digest")?,
            preparation: data.preparation,
            test: data.test.map(test_rows).transpose()?,
        })
    }
}

fn test_rows(test: proto::TestRows) -> Result<TestRows, WireError> {
    Ok(TestRows { rows: test.rows, digest: digest(&test.digest, "data.test.digest")? })
}

impl From<InputSpec> for proto::Input {
    fn from(input: InputSpec) -> Self {
        use proto::input;
        Self {
            name: input.name,
            shape: input.shape.iter().map(|&extent| extent as u64).collect(),
            dtype: match input.dtype {
                Dtype::U8 => proto::Dtype::U8,
                Dtype::I32 => proto::Dtype::I32,
                Dtype::F32 => proto::Dtype::F32,
            }
            .into(),
            encoding: Some(match input.encoding {
                Encoding::Numbers { normalize } => input::Encoding::Normalize(normalize),
                Encoding::Tokens { vocabulary } => input::Encoding::Vocabulary(vocabulary),
                Encoding::OneHot { width } => input::Encoding::Width(width),
            }),
        }
    }
}

impl TryFrom<proto::Input> for InputSpec {
    type Error = WireError;

    fn try_from(input: proto::Input) -> Result<Self, WireError> {
        use proto::input;
        let shape: Result<_, _> =
            input.shape.iter().map(|&extent| size(extent, "data.inputs.shape")).collect();
        Ok(Self {
            name: input.name,
            shape: shape?,
            dtype: match proto::Dtype::try_from(input.dtype) {
                Ok(proto::Dtype::U8) => Dtype::U8,
                Ok(proto::Dtype::I32) => Dtype::I32,
                Ok(proto::Dtype::F32) => Dtype::F32,
                _ => {
                    let value = input.dtype.to_string();
                    return Err(WireError::Unknown { field: "data.inputs.dtype", value });
                }
            },
            encoding: match present(input.encoding, "data.inputs.encoding")? {
                input::Encoding::Normalize(normalize) => Encoding::Numbers { normalize },
                input::Encoding::Vocabulary(vocabulary) => Encoding::Tokens { vocabulary },
                input::Encoding::Width(width) => Encoding::OneHot { width },
            },
        })
    }
}

impl From<TargetColumn> for proto::Target {
    fn from(column: TargetColumn) -> Self {
        use proto::target::Kind;
        Self {
            name: column.name,
            kind: Some(match column.target {
                Target::Classes(list) => Kind::Classes(class_names(&list)),
                Target::Values(width) => Kind::Values(width as u64),
            }),
        }
    }
}

impl TryFrom<proto::Target> for TargetColumn {
    type Error = WireError;

    fn try_from(target: proto::Target) -> Result<Self, WireError> {
        use proto::target::Kind;
        Ok(Self {
            name: target.name,
            target: match present(target.kind, "data.targets.kind")? {
                Kind::Classes(classes) => Target::Classes(class_list(classes)),
                Kind::Values(width) => Target::Values(size(width, "data.targets.values")?),
            },
        })
    }
}

fn class_names(list: &ClassList) -> proto::ClassNames {
    let unnamed = (0..).zip(list.names()).filter(|(_, name)| name.is_none());
    proto::ClassNames {
        unnamed: unnamed.map(|(class, _)| class).collect(),
        names: list.names().iter().map(|name| name.clone().unwrap_or_default()).collect(),
    }
}

fn class_list(classes: proto::ClassNames) -> ClassList {
    let mut names: Vec<_> = classes.names.into_iter().map(Some).collect();
    for class in classes.unnamed {
        if let Some(name) = names.get_mut(class as usize) {
            *name = None;
        }
    }
    ClassList::new(names)
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

impl From<SourceRecord> for proto::Source {
    fn from(SourceRecord { name, rows, version, way, digest }: SourceRecord) -> Self {
        let digest = digest.map(|digest| digest.0.to_vec()).unwrap_or_default();
        Self { name, rows, version, way, digest }
    }
}

impl TryFrom<proto::Source> for SourceRecord {
    type Error = WireError;

    fn try_from(source: proto::Source) -> Result<Self, WireError> {
        let proto::Source { name, rows, version, way, digest: bytes } = source;
        let digest = match bytes.as_slice() {
            [] => None,
            bytes => Some(digest(bytes, "run.sources.digest")?),
        };
        Ok(Self { name, rows, version, way, digest })
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{DataSetId, Digest, ShardId};

    use super::*;

    #[test]
    fn a_data_set_comes_back_with_its_nulls_padding_and_test_rows() {
        let names = [None, Some(String::new()), Some("a".to_owned()), None];
        let data = DataSet {
            id: DataSetId(Digest([1; 32])),
            name: "d".into(),
            inputs: vec![InputSpec::numbers(vec![2, 3], Dtype::U8, 255.0)],
            targets: vec![
                TargetColumn::only(Target::Classes(ClassList::new(names.to_vec()))),
                TargetColumn { name: "z".into(), target: Target::Values(3) },
            ],
            shards: vec![ShardInfo {
                shard: ShardId(0),
                train_rows: 3,
                validation_rows: 1,
                digest: Digest([2; 32]),
            }],
            test: Some(TestRows { rows: 7, digest: Digest([3; 32]) }),
            rows_digest: Digest([4; 32]),
            preparation: "{}".into(),
        };
        let sent = proto::DataSet::from(data.clone());
        assert_eq!(DataSet::try_from(sent.clone()).unwrap(), data);
        let plain = proto::DataSet { test: None, ..sent.clone() };
        assert_eq!(DataSet::try_from(plain).unwrap().test, None);
        let short = proto::TestRows { rows: 7, digest: vec![3; 31] };
        assert!(DataSet::try_from(proto::DataSet { test: Some(short), ..sent }).is_err());
    }
}
