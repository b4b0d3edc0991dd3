//! What a descriptor selects of what is listed: all of one part of a data set, or some of its
//! columns, rows and shards.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::FlightDescriptor;
use arrowhop_types::{Problems, ShardId};
use arrowhop_wire::tickets::{DataSetName, PartPath, PartQuery, Selection, Ticket};

use crate::columns::row_bytes;
use crate::info::{PartShards, by_part, is_named};
use crate::{FlightError, LocatedShard};

/// One part of a data set, or some of it.
pub(crate) struct SelectedPart {
    /// What selects it, by the data set's id.
    pub(crate) query: PartQuery,
    /// The data set's name.
    pub(crate) name: String,
    /// The columns that are selected.
    pub(crate) schema: SchemaRef,
    /// At least one, by number.
    pub(crate) shards: Vec<SelectedShard>,
}

/// What is selected of one shard.
pub(crate) struct SelectedShard {
    pub(crate) shard: ShardId,
    pub(crate) ticket: Ticket,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) locations: Vec<String>,
}

/// What a descriptor asks for.
pub(crate) fn query_of(descriptor: &FlightDescriptor) -> Result<PartQuery, Problems> {
    if descriptor.cmd.is_empty() {
        PartPath::try_from(&*descriptor.path).map(PartQuery::whole)
    } else {
        PartQuery::try_from(&*descriptor.cmd)
    }
}

/// The shards of the part that a path names.
pub(crate) fn find(
    path: &PartPath,
    mut shards: Vec<LocatedShard>,
) -> Result<PartShards, FlightError> {
    shards.retain(|located| is_named(&located.listing, &path.data_set));
    let ids: BTreeSet<_> = shards.iter().map(|located| located.listing.shard.data_set).collect();
    let name = path.to_path().join("/");
    match ids.len() {
        0 | 1 => {}
        count => return Err(FlightError::AmbiguousName { name, count }),
    }
    shards.retain(|located| located.listing.shard.part == path.part);
    by_part(shards).into_values().next().ok_or(FlightError::MissingDataSet { name })
}

impl SelectedPart {
    /// All of a part.
    ///
    /// # Panics
    /// When the part has no shard: then it would not be listed.
    pub(crate) fn whole(part: PartShards) -> Self {
        let first = &part.first().expect("a part is listed because it has a shard").listing;
        let data_set = DataSetName::Id(first.shard.data_set);
        let query = PartQuery::whole(PartPath { data_set, part: first.shard.part });
        Self::select(part, query).expect("all of a part is there")
    }

    /// What `query` selects of the part that its path names.
    pub(crate) fn select(part: PartShards, mut query: PartQuery) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let first = &part.first().expect("a part is found because it has a shard").listing;
        let whole = &first.schema;
        let columns = columns_of(whole, query.columns.as_deref(), &mut problems);
        let wanted = query.shards.as_deref();
        check_shards(&part, wanted, &mut problems);
        let is_wanted = |located: &&LocatedShard| {
            wanted.is_none_or(|wanted| wanted.contains(&located.listing.shard.shard))
        };
        let longest = part.iter().filter(is_wanted).map(|located| located.listing.rows).max();
        if let (Some(rows), Some(longest)) = (&query.rows, longest)
            && rows.start >= longest
        {
            let text =
                format!("begin at {}, but no shard asked for has over {longest}", rows.start);
            problems.push("descriptor.rows", text);
        }
        problems.or(())?;
        let numbers: Vec<_> = columns.iter().map(|&column| column as usize).collect();
        let schema = if columns.is_empty() {
            SchemaRef::clone(whole)
        } else {
            whole.project(&numbers).expect("the columns were found in it").into()
        };
        let row_bytes = row_bytes(&schema) as u64;
        let select = |located: &LocatedShard| {
            selected_shard(located, &columns, query.rows.as_ref(), row_bytes)
        };
        let shards = part.iter().filter(is_wanted).filter_map(select).collect();
        let name = first.name.clone();
        query.path.data_set = DataSetName::Id(first.shard.data_set);
        Ok(Self { query, name, schema, shards })
    }

    /// A descriptor that selects this again, whatever else gets the same name.
    pub(crate) fn descriptor(&self) -> FlightDescriptor {
        if self.query == PartQuery::whole(self.query.path.clone()) {
            FlightDescriptor::new_path(self.query.path.to_path())
        } else {
            FlightDescriptor::new_cmd(self.query.to_json())
        }
    }
}

/// What is selected of a shard; `None` when its rows end before.
fn selected_shard(
    LocatedShard { listing, locations }: &LocatedShard,
    columns: &[u32],
    rows: Option<&Range<u64>>,
    row_bytes: u64,
) -> Option<SelectedShard> {
    let all = 0..listing.rows;
    let rows = rows.map_or(all.clone(), |rows| rows.start..rows.end.min(listing.rows));
    let (ticket, bytes) = if columns.is_empty() && rows == all {
        (Ticket::Shard(listing.shard), listing.bytes)
    } else if rows.is_empty() {
        return None;
    } else {
        let bytes = (rows.end - rows.start).saturating_mul(row_bytes);
        let (shard, columns, rows) = (listing.shard, columns.to_vec(), rows.clone());
        (Ticket::Selection(Selection { shard, columns, rows }), bytes)
    };
    Some(SelectedShard {
        shard: listing.shard.shard,
        ticket,
        rows: rows.end - rows.start,
        bytes,
        locations: locations.clone(),
    })
}

/// Columns by number; none at all when all are selected in their order.
fn columns_of(schema: &Schema, names: Option<&[String]>, problems: &mut Problems) -> Vec<u32> {
    let mut columns = Vec::new();
    for name in names.unwrap_or_default() {
        let found = schema.fields().iter().position(|field| field.name() == name);
        match found.and_then(|column| u32::try_from(column).ok()) {
            Some(column) => columns.push(column),
            None => {
                let fields = schema.fields().iter();
                let there: Vec<_> = fields.map(|field| field.name().as_str()).collect();
                let text = format!("is not there; there are {}", there.join(", "));
                problems.push(format!("descriptor.columns: {name:.100}"), text);
            }
        }
    }
    let is_all = columns.len() == schema.fields().len() && columns.is_sorted();
    if is_all { Vec::new() } else { columns }
}

fn check_shards(part: &PartShards, wanted: Option<&[ShardId]>, problems: &mut Problems) {
    let there: BTreeSet<_> = part.iter().map(|located| located.listing.shard.shard).collect();
    let missing = wanted.unwrap_or_default().iter().filter(|shard| !there.contains(shard));
    for shard in missing {
        let there: Vec<_> = there.iter().take(100).map(ToString::to_string).collect();
        let text = format!("is not here; there are {}", there.join(", "));
        problems.push(format!("descriptor.shards: {shard}"), text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field};
    use arrowhop_types::{DataSetId, Digest, Part};
    use arrowhop_wire::tickets::ShardTicket;

    use super::*;
    use crate::ShardListing;

    /// Shards 0, 1 and 3, of 10, 8 and 4 rows.
    fn part() -> PartShards {
        let field = |name: &str, data_type| Field::new(name, data_type, false);
        let schema = Arc::new(Schema::new(vec![
            field("row", DataType::UInt64),
            field("x", DataType::Float32),
            field("y", DataType::Int32),
        ]));
        let listing = |(shard, rows): (u32, u64)| ShardListing {
            shard: ShardTicket {
                data_set: DataSetId(Digest([7; 32])),
                shard: ShardId(shard),
                part: Part::Train,
            },
            name: "toy".into(),
            rows,
            bytes: 100 * rows,
            schema: Arc::clone(&schema),
        };
        [(0, 10), (1, 8), (3, 4)].map(|shard| LocatedShard::here(listing(shard))).into()
    }

    fn select(rest: &str) -> Result<SelectedPart, Problems> {
        let query = format!(r#"{{"data_set": "toy"{rest}}}"#);
        SelectedPart::select(part(), PartQuery::try_from(query.as_bytes()).unwrap())
    }

    #[test]
    fn rows_beyond_a_shard_s_end_are_left_out_and_shards_without_any_too() {
        let selected = select(r#", "rows": [4, 9], "columns": ["y", "x"]"#).unwrap();
        let found: Vec<_> =
            selected.shards.iter().map(|shard| (shard.shard.0, shard.rows, shard.bytes)).collect();
        assert_eq!(found, [(0, 5, 40), (1, 4, 32)]);
        let Ticket::Selection(last) = &selected.shards[1].ticket else { panic!("a selection") };
        assert_eq!((&*last.columns, last.rows.clone()), (&[2, 1][..], 4..8));
        let names: Vec<_> = selected.schema.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["y", "x"]);
        let again = query_of(&selected.descriptor()).unwrap();
        assert_eq!(again, selected.query);
        assert_eq!(again.path.data_set, DataSetName::Id(DataSetId(Digest([7; 32]))));
    }

    #[test]
    fn whatever_selects_everything_is_the_whole_shard() {
        for rest in ["", r#", "rows": [0, 99]"#, r#", "columns": ["row", "x", "y"]"#] {
            let selected = select(rest).unwrap();
            let is_whole = |shard: &SelectedShard| matches!(shard.ticket, Ticket::Shard(_));
            assert!(selected.shards.iter().all(is_whole), "{rest}");
            assert_eq!(selected.shards.iter().map(|shard| shard.bytes).sum::<u64>(), 2_200);
        }
        let whole = SelectedPart::whole(part()).descriptor();
        assert_eq!(whole.path[1], "train");
        assert_eq!(select("").unwrap().descriptor(), whole);
    }

    #[test]
    fn what_is_not_there_is_named_beside_what_is() {
        let refused = select(r#", "columns": ["x", "z"], "shards": [0, 2], "rows": [10, 11]"#);
        assert_eq!(
            refused.err().unwrap().to_string(),
            "descriptor.columns: z: is not there; there are row, x, y\n\
             descriptor.shards: 2: is not here; there are 0, 1, 3\n\
             descriptor.rows: begin at 10, but no shard asked for has over 10"
        );
    }
}
