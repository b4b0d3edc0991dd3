//! Reading by query: one snapshot, cut into parts that several connections stream at a time, each
//! straight into Arrow's buffers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;

use super::batches::{CopyStream, Form};
use super::relation::Relation;
use super::server::{Server, Session, literal, quoted};
use crate::error::SourceError;
use crate::parallel;

/// Each connection has about this many parts to read, so that all end at about the same time.
const PARTS_EACH: u32 = 8;
/// A part has at least this many pages: 8 MiB.
const PART_PAGES_MIN: u32 = 1_024;

/// A query, and what it is for in messages: the user did not write it.
pub(super) struct Part {
    pub(super) sql: String,
    pub(super) doing: String,
}

/// All rows of what is called `name` in messages.
pub(super) fn whole(form: &Form, from: &str, name: &str) -> Part {
    Part { sql: select(form, from, None), doing: format!("read {name}") }
}

/// The query of all rows that pass the form's condition, and one more.
fn select(form: &Form, from: &str, also: Option<&str>) -> String {
    let columns: Vec<String> = form.wanted.iter().map(|wanted| wanted.expression()).collect();
    let own = form.condition.as_ref().map(|condition| condition.sql.as_str());
    let conditions: Vec<&str> = [also, own].into_iter().flatten().collect();
    let filter = match conditions.as_slice() {
        [] => String::new(),
        some => format!(" WHERE {}", some.join(" AND ")),
    };
    format!("SELECT {} FROM {from}{filter}", columns.join(", "))
}

/// The queries that read a table in the order in which its rows lie, by ranges of pages. The last
/// has no end, for pages that were added since.
pub(super) fn by_pages(form: &Form, relation: &Relation, connections: usize) -> Vec<Part> {
    let connections = u32::try_from(connections).unwrap_or(u32::MAX);
    let most = (relation.pages / PART_PAGES_MIN).max(1);
    let parts = if connections == 1 { 1 } else { connections.saturating_mul(PARTS_EACH).min(most) };
    let start = |part: u32| {
        let page = u64::from(relation.pages) * u64::from(part) / u64::from(parts);
        u32::try_from(page).expect("a part begins on one of the pages")
    };
    let (name, only) = (&relation.name, format!("ONLY {}", relation.name));
    (0..parts)
        .map(|part| match (part, part + 1 == parts) {
            (0, true) => whole(form, &only, name),
            (_, true) => Part {
                sql: select(form, &only, Some(&format!("ctid >= '({},0)'", start(part)))),
                doing: format!("read {name} from page {} on", start(part)),
            },
            _ => between(form, relation, (start(part), 0), (start(part + 1), 0)),
        })
        .collect()
}

/// The query of the tuples between two places of a table, the second not included.
pub(super) fn between(form: &Form, relation: &Relation, from: (u32, u16), to: (u32, u16)) -> Part {
    let between = format!("ctid >= '({},{})' AND ctid < '({},{})'", from.0, from.1, to.0, to.1);
    let last = if to.1 == 0 { to.0.saturating_sub(1) } else { to.0 };
    let pages = match from.0 {
        first if first == last => format!("page {first}"),
        first => format!("pages {first} to {last}"),
    };
    Part {
        sql: select(form, &format!("ONLY {}", relation.name), Some(&between)),
        doing: format!("read {pages} of {}", relation.name),
    }
}

/// The queries of as many parts as there are connections, by a hash of a column (the concurrent
/// targeted queries of Zhang et al., PVLDB 14(10), section 4.2).
pub(super) fn by_hash(
    form: &Form,
    from: &str,
    name: &str,
    column: &str,
    parts: usize,
) -> Vec<Part> {
    let hash = format!("hashtextextended({}::text, 0)", quoted(column));
    (0..parts)
        .map(|part| {
            let is_of = format!("((coalesce({hash}, 0) % {parts}) + {parts}) % {parts} = {part}");
            let sql = select(form, from, Some(&is_of));
            Part { sql, doing: format!("read part {} of {parts} of {name}", part + 1) }
        })
        .collect()
}

/// Reads queries on the lead's snapshot, which is in a transaction, on so many connections; the
/// batches of each, in the queries' order.
pub(super) fn read(
    server: &Server,
    lead: &Session,
    form: &Form,
    queries: &[Part],
    connections: usize,
) -> Result<Vec<RecordBatch>, SourceError> {
    if connections == 1 || queries.len() == 1 {
        let mut batches = Vec::new();
        for query in queries {
            batches.extend(one(lead, form, query)?);
        }
        return Ok(batches);
    }
    let export = lead.rows("export a snapshot", "SELECT pg_export_snapshot()", &[]);
    let snapshot: String = lead.wait(export)?[0].get(0);
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work = || {
        let mut done = Vec::new();
        let mut read = || -> Result<(), SourceError> {
            let session = Session::open(server)?;
            let begin = format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
                literal(&snapshot)
            );
            session.wait(session.run("take a snapshot", &begin))?;
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(query) = queries.get(i) else { return Ok(()) };
                done.push((i, one(&session, form, query)?));
            }
        };
        if let Err(error) = read() {
            // The others stop after their part.
            next.store(queries.len(), Ordering::Relaxed);
            let mut failure = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            failure.get_or_insert(error);
        }
        done
    };
    let parts = parallel::in_order(parallel::spawn(connections.min(queries.len()), work));
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(parts.into_iter().flatten().collect()),
    }
}

/// Reads one query.
pub(super) fn one(
    session: &Session,
    form: &Form,
    query: &Part,
) -> Result<Vec<RecordBatch>, SourceError> {
    let mut stream = CopyStream::new(form);
    session.copy(&query.doing, &query.sql, |message| stream.push(message))?;
    stream.finish()
}
