//! The rows of a table that pass a condition, as a table of its own. PostgreSQL and Parquet files read
//! no others; what is in memory is cut down.

use arrowhop_types::Problems;

use crate::error::SourceError;
use crate::filter::Filter;
use crate::parallel;
use crate::postgres::{PartReport, Request};
use crate::source::{Description, Source};
use crate::spec::Location;
use crate::table::{Body, Table, missing_text};
use crate::workspace::Workspace;

/// The rows of a location that pass a condition, numbered anew.
pub(crate) struct FilteredSource<'a> {
    pub(crate) of: &'a Location,
    pub(crate) filter: &'a Filter,
}

impl Source for FilteredSource<'_> {
    /// How many rows pass is not known before they are read.
    fn describe(&self) -> Result<Description, SourceError> {
        Ok(Description { rows: None, ..self.of.source().describe()? })
    }

    fn version(&self) -> Result<Option<String>, SourceError> {
        self.of.source().version()
    }

    fn open(
        &self,
        columns: Option<&[String]>,
        workspace: &Workspace,
    ) -> Result<(Table, Vec<PartReport>), SourceError> {
        let filter = self.filter;
        match self.of {
            Location::Postgres { server, request } => {
                let both = request.filter.as_ref().map(|first| first.and(filter));
                let filter = Some(both.unwrap_or_else(|| filter.clone()));
                let request = Request { filter, ..(**request).clone() };
                let of = Location::Postgres { server: server.clone(), request: Box::new(request) };
                return of.source().open(columns, workspace);
            }
            Location::Filtered { of, filter: first } => {
                let filter = &first.and(filter);
                return FilteredSource { of, filter }.open(columns, workspace);
            }
            _ => {}
        }
        let columns = columns.map(|columns| {
            let more = filter.columns().iter().filter(|column| !columns.contains(column));
            columns.iter().chain(more).cloned().collect::<Vec<_>>()
        });
        let (table, parts) = self.of.source().open(columns.as_deref(), workspace)?;
        let name = table.name;
        let table = match table.body {
            Body::Parquet(file) => {
                let file = file.filtered(&name, filter)?;
                if file.rows() == 0 {
                    return Err(none_pass(&name).into());
                }
                Table::of_parquet(name, file, workspace)
            }
            Body::Memory(batches) => {
                let schema = table.schema;
                let bound = filter.bind(
                    &name,
                    |column| Some(schema.field_with_name(column).ok()?.data_type().clone()),
                    || missing_text(&schema),
                )?;
                let kept = parallel::map(&batches, |batch| {
                    let kept = bound.keep(batch);
                    let kept =
                        kept.map_err(|error| Problems::one(name.clone(), error.to_string()))?;
                    workspace.keep(kept)
                });
                let kept = kept.into_iter().collect::<Result<Vec<_>, _>>()?;
                if kept.iter().all(|batch| batch.num_rows() == 0) {
                    return Err(none_pass(&name).into());
                }
                Table::of(name, schema, kept, workspace)?
            }
        };
        Ok((table, parts))
    }
}

/// What is said where nothing is left.
pub(crate) fn none_pass(name: &str) -> Problems {
    Problems::one(name, "has no row that its `where` lets pass; ask for less")
}
