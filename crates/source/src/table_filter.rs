//! The rows of a table that pass a condition, as a table of its own. PostgreSQL and Parquet files read
//! no others; what is in memory is cut down.

use arrowhop_types::Problems;

use crate::error::SourceError;
use crate::filter::Filter;
use crate::parallel;
use crate::postgres::{PartReport, Request};
use crate::spec::Location;
use crate::table::{Body, Table, missing_text};

impl Table {
    /// The rows of a location that pass a condition, numbered anew.
    pub(crate) fn find_filtered(
        of: &Location,
        columns: Option<Vec<String>>,
        filter: &Filter,
    ) -> Result<(Self, Vec<PartReport>), SourceError> {
        match of {
            Location::Postgres { server, request } => {
                let both = request.filter.as_ref().map(|first| first.and(filter));
                let filter = Some(both.unwrap_or_else(|| filter.clone()));
                let request = Request { filter, ..(**request).clone() };
                let of = Location::Postgres { server: server.clone(), request: Box::new(request) };
                return Self::find(&of, columns);
            }
            Location::Filtered { of, filter: first } => {
                return Self::find_filtered(of, columns, &first.and(filter));
            }
            Location::File(_) | Location::Object(_) => {}
        }
        let columns = columns.map(|mut columns| {
            let more = filter.columns().iter().filter(|column| !columns.contains(column));
            let more: Vec<_> = more.cloned().collect();
            columns.extend(more);
            columns
        });
        let (table, parts) = Self::find(of, columns)?;
        let name = table.name;
        let table = match table.body {
            Body::Parquet(file) => {
                let file = file.filtered(&name, filter)?;
                if file.rows() == 0 {
                    return Err(none_pass(&name).into());
                }
                Self::of_parquet(name, file)
            }
            Body::Memory(batches) => {
                let schema = table.schema;
                let bound = filter.bind(
                    &name,
                    |column| Some(schema.field_with_name(column).ok()?.data_type().clone()),
                    || missing_text(&schema),
                )?;
                let kept = parallel::map(&batches, |batch| bound.keep(batch));
                let kept = kept.into_iter().collect::<Result<Vec<_>, _>>();
                let kept = kept.map_err(|error| Problems::one(name.clone(), error.to_string()))?;
                if kept.iter().all(|batch| batch.num_rows() == 0) {
                    return Err(none_pass(&name).into());
                }
                Self::of(name, schema, kept)?
            }
        };
        Ok((table, parts))
    }
}

/// What is said where nothing is left.
pub(crate) fn none_pass(name: &str) -> Problems {
    Problems::one(name, "has no row that its `where` lets pass; ask for less")
}
