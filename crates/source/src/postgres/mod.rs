//! Rows of a PostgreSQL database as Arrow: by query (`COPY … (FORMAT binary)`), or by reading a table's
//! pages directly where every gate passes. Both give the same rows in the same order, that of the
//! table's pages; what a column becomes does not depend on the way either.
//!
//! ```text
//!  relation ─▶ gates ─ none against it ─▶ direct: blocks ─▶ page ─▶ tuple ─▶ column ─┐
//!                │                            │ hole              ▲ toast            ├─▶ batches
//!                └── any reason ───────────▶ copy: COPY BINARY ───────────▶ column ──┘
//! ```

mod array;
mod batches;
mod blocks;
mod catalog;
mod checksum;
mod column;
mod condition;
mod connection_string;
mod control_file;
mod copy;
mod describe;
mod direct;
mod distributed;
mod encryption;
mod fixed;
mod gates;
mod kind;
mod lock;
mod name;
mod numeric;
mod page;
mod plan;
mod relation;
mod report;
mod request;
mod retrieve;
mod room;
mod server;
mod toast;
mod tuple;
mod value;

#[cfg(test)]
mod encryption_tests;
#[cfg(test)]
mod filter_tests;
#[cfg(test)]
#[path = "../../../../tests/harness/postgres.rs"]
#[expect(unreachable_pub, reason = "it is also the whole-system tests'")]
pub(crate) mod harness;
#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrowhop_types::Problems;

use self::describe::apart;
pub(crate) use self::describe::{describe, version};
use self::distributed::Placement;
pub use self::page::Fallback;
pub use self::report::{PageCounts, PartReport, Path};
pub use self::request::{Access, Request, Rows};
pub use self::server::Server;
use self::server::Session;
use crate::error::SourceError;
use crate::parallel;
use crate::workspace::{Workspace, bytes_of};

/// A batch of fewer rows is joined with its neighbours.
const SMALL_ROWS: usize = 1_024;
/// Rows of joined batches together.
const JOINED_ROWS: usize = 16_384;
/// Threads, and so connections, are at most this many.
const THREADS_MAX: usize = 64;

/// Rows that were read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Their columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Which transactions they include, as `pg_current_snapshot` tells it; of several servers one each.
    pub snapshot: String,
    /// How each part was read.
    pub parts: Vec<PartReport>,
}

/// Reads rows into memory, all on one snapshot.
///
/// # Errors
/// [`SourceError::Input`] where names or values are wrong, or where [`Access::Direct`] is asked for
/// and any gate does not pass, with every reason; [`SourceError::Postgres`] where the server refuses
/// or fails; [`SourceError::Read`] where its files cannot be read.
pub fn read(server: &Server, request: &Request) -> Result<Reading, SourceError> {
    read_within(server, request, &Workspace::in_memory())
}

/// Reads rows as [`read`] does; those that are too many for the workspace's memory lie in its files.
pub(crate) fn read_within(
    server: &Server,
    request: &Request,
    workspace: &Workspace,
) -> Result<Reading, SourceError> {
    apart(|| read_rows(server, request, workspace))
}

fn read_rows(
    server: &Server,
    request: &Request,
    workspace: &Workspace,
) -> Result<Reading, SourceError> {
    if request.threads == 0 || request.threads > THREADS_MAX {
        let text = format!("is {}; give 1 to {THREADS_MAX}", request.threads);
        return Err(Problems::one("threads", text).into());
    }
    let (session, facts) = Session::open_with_facts(server)?;
    let plans = match &request.rows {
        Rows::Table(name) => {
            let relation = plan::relation(&session, &facts, name)?;
            if let Some(rows) = relation.rows {
                workspace.progress().expect(rows);
            }
            if request.segments
                && let Some(placements) =
                    distributed::placements(server, &session, &facts, &relation)?
            {
                if facts.is_coordinator && !distributed::may_be_asked(&placements)? {
                    let reading = retrieve::read(server, &session, &relation, request, workspace)?;
                    return reading.ok_or_else(no_segment);
                }
                let names = relation.wanted_names(request)?;
                return read_segments(&names, &placements, request, workspace);
            }
            plan::of_table(server, &session, &facts, relation, request)?
        }
        Rows::Query(query) => plan::of_query(&session, query, request)?,
    };
    // Locks were taken before, so the snapshot sees all that their holders' predecessors wrote.
    let asked = session.texts("ask for the snapshot", "SELECT pg_current_snapshot()");
    let snapshot = session.wait(asked)?.concat();
    let mut reading: Option<Reading> = None;
    for plan in plans {
        let part = plan.read(server, &session, request, workspace)?;
        let batches = joined(part.batches);
        let bytes = batches.iter().map(bytes_of).sum();
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let (name, path) = (part.name, part.path);
        let parts = vec![PartReport { name, path, rows, bytes, snapshot: snapshot.clone() }];
        let part = Reading { schema: part.schema, batches, snapshot: snapshot.clone(), parts };
        add(&mut reading, part)?;
    }
    reading.ok_or_else(|| Problems::one("table", "is partitioned and has no partition").into())
}

/// Reads the parts of a table where they are, as many at a time as there are threads.
fn read_segments(
    names: &[String],
    placements: &[Placement],
    request: &Request,
    workspace: &Workspace,
) -> Result<Reading, SourceError> {
    let results = parallel::map_on(request.threads, placements, |placement| {
        let request = Request {
            rows: Rows::Table(placement.table.clone()),
            columns: Some(names.to_vec()),
            threads: 1,
            segments: false,
            ..request.clone()
        };
        let mut reading = read_rows(&placement.server, &request, workspace)?;
        let place = placement.server.name();
        reading.parts.iter_mut().for_each(|part| part.name = format!("{place} {}", part.name));
        reading.snapshot = format!("{place} {}", reading.snapshot);
        Ok::<_, SourceError>(reading)
    });
    let mut reading = None;
    for part in results {
        add(&mut reading, part?)?;
    }
    reading.ok_or_else(no_segment)
}

fn no_segment() -> SourceError {
    Problems::one("table", "is distributed and has no segment").into()
}

/// Adds a part to what was read.
fn add(reading: &mut Option<Reading>, part: Reading) -> Result<(), Problems> {
    let Some(reading) = reading else {
        *reading = Some(part);
        return Ok(());
    };
    if reading.schema != part.schema {
        let place = part.parts.first().map_or_else(String::new, |part| part.name.clone());
        let text = "has other columns, or arrays of another shape, than the first part";
        return Err(Problems::one(place, text));
    }
    if !reading.snapshot.contains(&part.snapshot) {
        reading.snapshot = format!("{}, {}", reading.snapshot, part.snapshot);
    }
    reading.batches.extend(part.batches);
    reading.parts.extend(part.parts);
    Ok(())
}

/// Small batches, as there are around pages that were read by SQL, made into larger ones.
fn joined(batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
    let mut all = Vec::with_capacity(batches.len());
    let mut small: Vec<RecordBatch> = Vec::new();
    let join = |small: &mut Vec<RecordBatch>, all: &mut Vec<RecordBatch>| {
        match small.as_slice() {
            [] => {}
            [one] => all.push(one.clone()),
            [first, ..] => {
                let one = concat_batches(&first.schema(), small.iter());
                all.push(one.expect("a reading's batches have one schema"));
            }
        }
        small.clear();
    };
    for batch in batches {
        let rows: usize = small.iter().map(RecordBatch::num_rows).sum();
        let is_small = batch.num_rows() < SMALL_ROWS;
        if !is_small || rows + batch.num_rows() > JOINED_ROWS {
            join(&mut small, &mut all);
        }
        if is_small { small.push(batch) } else { all.push(batch) }
    }
    join(&mut small, &mut all);
    all
}
