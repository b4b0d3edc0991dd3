//! What rows of a database are, before they are read.

use std::thread;

use super::distributed;
use super::gates::ServerFacts;
use super::plan;
use super::relation::{self, Relation};
use super::request::{Request, Rows};
use super::server::{Server, Session};
use crate::error::SourceError;
use crate::source::Description;

/// Their columns, as they become; how many they are by the server's statistics.
pub(crate) fn describe(server: &Server, request: &Request) -> Result<Description, SourceError> {
    apart(|| {
        let (session, facts) = Session::open_with_facts(server)?;
        let (form, relation) = match &request.rows {
            Rows::Query(query) => {
                let (columns, filter) = (request.columns.as_deref(), request.filter.as_ref());
                (relation::query_form(&session, query, columns, filter)?, None)
            }
            Rows::Table(name) => {
                let relation = plan::relation(&session, &facts, name)?;
                let columns = relation.wanted(request.columns.as_deref())?;
                (relation.form(&session, &columns, request.filter.as_ref())?, Some(relation))
            }
        };
        let pages = |relation: &Relation| {
            (u64::from(relation.pages) + u64::from(relation.toast_pages))
                * u64::from(facts.block_bytes)
        };
        let version = match &relation {
            Some(relation) => of_relation(server, &session, &facts, relation)?,
            None => None,
        };
        Ok(Description {
            name: request.rows.name(),
            schema: form.schema,
            rows: relation.as_ref().and_then(|relation| relation.rows),
            bytes: relation.as_ref().map(pages),
            version,
        })
    })
}

/// The snapshot of all transactions of the server, by which a table is what it is: while none has ended
/// since, no row of any table is another. Nothing of rows that may change without one: of queries, views
/// and foreign tables, of tables with policies, and of what other servers hold.
pub(crate) fn version(server: &Server, request: &Request) -> Result<Option<String>, SourceError> {
    let Rows::Table(name) = &request.rows else { return Ok(None) };
    apart(|| {
        let (session, facts) = Session::open_with_facts(server)?;
        let relation = plan::relation(&session, &facts, name)?;
        of_relation(server, &session, &facts, &relation)
    })
}

fn of_relation(
    server: &Server,
    session: &Session,
    facts: &ServerFacts,
    relation: &Relation,
) -> Result<Option<String>, SourceError> {
    if !matches!(relation.kind, 'r' | 'm' | 'p')
        || relation.has_row_security
        || distributed::placements(server, session, facts, relation)?.is_some()
    {
        return Ok(None);
    }
    let oid = relation.oid;
    let sql = format!(
        "SELECT count(*) FROM pg_partition_tree({oid}) t JOIN pg_class c ON c.oid = t.relid \
         WHERE c.relkind NOT IN ('r', 'p'); \
         SELECT format('system %s, database %s, relation {oid}, as %s, snapshot %s', \
                       (SELECT system_identifier FROM pg_control_system()), \
                       (SELECT oid FROM pg_database WHERE datname = current_database()), \
                       current_user, pg_current_snapshot())"
    );
    let doing = format!("look up the version of {}", relation.place());
    let found = session.wait(session.texts(&doing, &sql))?;
    match found.as_slice() {
        [others, version] if others == "0" => Ok(Some(version.clone())),
        _ => Ok(None),
    }
}

/// A connection waits on a runtime of its own, which may not be inside of another's.
pub(super) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let working = scope.spawn(work);
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
