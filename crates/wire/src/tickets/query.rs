//! What a descriptor's `cmd` asks of a data set: JSON, so that any client can write it by hand.

use std::collections::BTreeSet;
use std::ops::Range;

use arrowhop_types::{Part, Problems, ShardId};
use serde::Deserialize;

use super::{DataSetName, PartPath, part_named};

/// A longer query is refused unread.
pub const QUERY_BYTES_MAX: usize = 16 << 10;

/// Some columns and rows of some shards of one part of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartQuery {
    /// Which part of which data set.
    pub path: PartPath,
    /// The columns, in the order of the answer, none twice; `None` for all.
    pub columns: Option<Vec<String>>,
    /// Rows within each shard, at least one; `None` for all.
    pub rows: Option<Range<u64>>,
    /// The shards, none twice; `None` for all.
    pub shards: Option<Vec<ShardId>>,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    data_set: String,
    part: Option<String>,
    columns: Option<Vec<String>>,
    rows: Option<[u64; 2]>,
    shards: Option<Vec<u32>>,
}

impl PartQuery {
    /// All of a part.
    #[must_use]
    pub fn whole(path: PartPath) -> Self {
        Self { path, columns: None, rows: None, shards: None }
    }

    /// Its JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let [data_set, part] = self.path.to_path().try_into().expect("a path has two elements");
        let mut query = serde_json::Map::new();
        query.insert("data_set".into(), data_set.into());
        query.insert("part".into(), part.into());
        if let Some(columns) = &self.columns {
            query.insert("columns".into(), columns.as_slice().into());
        }
        if let Some(rows) = &self.rows {
            query.insert("rows".into(), vec![rows.start, rows.end].into());
        }
        if let Some(shards) = &self.shards {
            let numbers: Vec<_> = shards.iter().map(|shard| shard.0).collect();
            query.insert("shards".into(), numbers.into());
        }
        serde_json::Value::Object(query).to_string()
    }
}

/// Reads the JSON of a descriptor's `cmd`.
impl TryFrom<&[u8]> for PartQuery {
    type Error = Problems;

    fn try_from(json: &[u8]) -> Result<Self, Problems> {
        let Written { data_set, part, columns, rows, shards } = read_json(json)?;
        let mut problems = Problems::new();
        let mut refuse = |key: &str, text: String| problems.push(format!("descriptor.{key}"), text);
        if let Some([start, end]) = rows.filter(|[start, end]| start >= end) {
            refuse("rows", format!("are {start} to {end}; give at least one, as [first, end]"));
        }
        if let Some(columns) = &columns {
            check_list(columns).unwrap_or_else(|text| refuse("columns", text));
        }
        if let Some(shards) = &shards {
            check_list(shards).unwrap_or_else(|text| refuse("shards", text));
        }
        let part = part.map_or(Ok(Part::Train), |part| part_named("descriptor.part", &part));
        let data_set = DataSetName::try_from(data_set.as_str());
        for found in [part.as_ref().err(), data_set.as_ref().err()].into_iter().flatten() {
            problems.extend("", found);
        }
        problems.or(())?;
        Ok(Self {
            path: PartPath { data_set: data_set?, part: part? },
            columns,
            rows: rows.map(|[start, end]| start..end),
            shards: shards.map(|shards| shards.into_iter().map(ShardId).collect()),
        })
    }
}

/// Reads the JSON of a descriptor's `cmd`, of at most [`QUERY_BYTES_MAX`] bytes.
pub(super) fn read_json<T: for<'a> Deserialize<'a>>(json: &[u8]) -> Result<T, Problems> {
    if json.len() > QUERY_BYTES_MAX {
        let text = format!("has {} bytes, more than {QUERY_BYTES_MAX}", json.len());
        return Err(Problems::one("descriptor.cmd", text));
    }
    serde_json::from_slice(json).map_err(|error| {
        let text = format!("is not the JSON that schemas/tickets.proto describes: {error}");
        Problems::one("descriptor.cmd", text)
    })
}

/// Nothing is chosen twice, and not nothing.
fn check_list<T: Ord + std::fmt::Debug>(chosen: &[T]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match chosen.iter().find(|one| !seen.insert(*one)) {
        Some(twice) => Err(format!("have {:.100} twice", format!("{twice:?}"))),
        None if chosen.is_empty() => Err("are none; leave the key out for all".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<PartQuery, Problems> {
        PartQuery::try_from(json.as_bytes())
    }

    #[test]
    fn a_query_goes_there_and_back_and_defaults_to_everything() {
        let path =
            PartPath { data_set: DataSetName::Name("cifar10".into()), part: Part::Validation };
        let query = PartQuery {
            path: path.clone(),
            columns: Some(vec!["x".into(), "row".into()]),
            rows: Some(0..1_000),
            shards: Some(vec![ShardId(2), ShardId(0)]),
        };
        assert_eq!(
            query.to_json(),
            r#"{"data_set":"cifar10","part":"validation","columns":["x","row"],"rows":[0,1000],"shards":[2,0]}"#
        );
        assert_eq!(read(&query.to_json()), Ok(query));
        let whole = PartQuery::whole(PartPath { part: Part::Train, ..path });
        assert_eq!(read(r#"{"data_set": "cifar10"}"#), Ok(whole.clone()));
        assert_eq!(read(&whole.to_json()), Ok(whole));
    }

    #[test]
    fn what_is_wrong_with_a_query_is_said_all_at_once() {
        let refusal = |json: &str| read(json).unwrap_err().to_string();
        assert_eq!(
            refusal(
                r#"{"data_set": "", "part": "test", "columns": [], "rows": [5, 5], "shards": [1, 1]}"#
            ),
            "descriptor.rows: are 5 to 5; give at least one, as [first, end]\n\
             descriptor.columns: are none; leave the key out for all\n\
             descriptor.shards: have 1 twice\n\
             descriptor.part: is neither train nor validation\n\
             data set: has 0 bytes, not 1 to 256"
        );
        let unknown = refusal(r#"{"data_set": "a", "colums": ["x"]}"#);
        assert!(
            unknown.contains("unknown field `colums`, expected one of `data_set`"),
            "{unknown}"
        );
        for json in ["", "[]", "{}", r#"{"data_set": 1}"#, r#"{"data_set":"a","rows":[0,1,2]}"#] {
            let text = refusal(json);
            assert!(text.starts_with("descriptor.cmd: is not the JSON that"), "{json}: {text}");
        }
        let long = format!(r#"{{"data_set": "{}"}}"#, "a".repeat(QUERY_BYTES_MAX));
        assert_eq!(refusal(&long), "descriptor.cmd: has 16400 bytes, more than 16384");
    }
}
