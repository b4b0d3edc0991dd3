//! A table of Greenplum or its relatives, from its segments on one snapshot, by a parallel retrieve
//! cursor: the way where nobody may ask a segment alone. The coordinator declares the cursor, each segment
//! has an endpoint of it, and whoever has its token takes its rows there.
//!
//! ```text
//! coordinator:  BEGIN ─▶ DECLARE … PARALLEL RETRIEVE CURSOR FOR SELECT … ─▶ endpoints, tokens ─▶ … ─▶ all done?
//! segments:                                      RETRIEVE ALL FROM ENDPOINT …  (binary rows) ─▶ batches ──┘
//! ```

use arrow::array::RecordBatch;

use super::batches::{CopyStream, Form};
use super::copy;
use super::lock;
use super::relation::Relation;
use super::report::Path;
use super::request::Request;
use super::server::{Server, Session, quoted};
use super::{PartReport, Reading, add, bytes_of};
use crate::error::SourceError;
use crate::parallel;
use crate::workspace::Workspace;

/// The cursor; it lives as long as its transaction.
const CURSOR: &str = "arrowhop_rows";
/// What a connection that only retrieves begins with.
const OPTIONS: &str = "-c gp_retrieve_conn=true";
/// Why segments are not asked for themselves.
const NO_UTILITY: &str =
    "its segments cannot be asked alone, and are read by a parallel retrieve cursor";

/// One segment's end of the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) server: Server,
    pub(super) name: String,
}

/// Reads a table's rows from its segments, as many at a time as there are threads.
pub(super) fn read(
    server: &Server,
    session: &Session,
    relation: &Relation,
    request: &Request,
    workspace: &Workspace,
) -> Result<Option<Reading>, SourceError> {
    let names = relation.wanted_names(request)?;
    session.wait(session.run("begin", lock::BEGIN))?;
    let columns = relation.wanted(Some(&names))?;
    let form = relation.form(session, &columns, request.filter.as_ref())?.within(workspace);
    let asked = session.texts("ask for the snapshot", "SELECT pg_current_snapshot()");
    let snapshot = session.wait(asked)?.concat();
    let doing = format!("declare a cursor of {}", relation.name);
    session.wait(session.run(&doing, &declare(&form, relation)))?;
    let endpoints = endpoints(server, session)?;
    let read = parallel::map_on(request.threads, &endpoints, |endpoint| retrieve(endpoint, &form));
    let mut reading = None;
    for (endpoint, batches) in endpoints.iter().zip(read) {
        let batches = super::joined(batches?);
        let part = PartReport {
            name: format!("{} {}", endpoint.server.name(), relation.name),
            path: Path::Copy { connections: 1, why_not_direct: vec![NO_UTILITY.to_owned()] },
            rows: batches.iter().map(|batch| batch.num_rows() as u64).sum(),
            bytes: batches.iter().map(bytes_of).sum(),
            snapshot: snapshot.clone(),
        };
        let (schema, snapshot) = (form.schema.clone(), snapshot.clone());
        add(&mut reading, Reading { schema, batches, snapshot, parts: vec![part] })?;
    }
    // A segment that failed says so here.
    let wait = format!("SELECT gp_wait_parallel_retrieve_cursor('{CURSOR}', -1)");
    session.wait(session.texts(&format!("end the cursor of {}", relation.name), &wait))?;
    Ok(reading)
}

fn declare(form: &Form, relation: &Relation) -> String {
    let rows = copy::whole(form, &relation.name, &relation.name).sql;
    format!("DECLARE {CURSOR} PARALLEL RETRIEVE CURSOR FOR {rows}")
}

/// The cursor's endpoints, in the order of their places: a function's rows, or a view's where it is older.
pub(super) fn endpoints(server: &Server, session: &Session) -> Result<Vec<Endpoint>, SourceError> {
    let doing = "look up the cursor's endpoints";
    let has_function = "SELECT to_regprocedure('gp_get_endpoints()') IS NOT NULL";
    let has_function = session.wait(session.texts(doing, has_function))? == ["t"];
    let from = if has_function { "gp_get_endpoints()" } else { "gp_endpoints" };
    let sql = format!(
        "SELECT hostname::text AS host, port::int4 AS port, auth_token::text AS token, \
                endpointname::text AS name \
         FROM {from} WHERE cursorname::text = '{CURSOR}' ORDER BY hostname, port, endpointname"
    );
    let rows = session.wait(session.rows(doing, &sql, &[]))?;
    let endpoint = |row: &tokio_postgres::Row| {
        let port = u16::try_from(row.get::<_, i32>("port")).unwrap_or(0);
        let (host, token): (String, String) = (row.get("host"), row.get("token"));
        let server = server.at(&host, port, Some(OPTIONS)).with_password(&token).with_role(None);
        Endpoint { server, name: row.get("name") }
    };
    Ok(rows.iter().map(endpoint).collect())
}

/// All rows of an endpoint.
fn retrieve(endpoint: &Endpoint, form: &Form) -> Result<Vec<RecordBatch>, SourceError> {
    let session = Session::bare(&endpoint.server)?;
    let sql = format!("RETRIEVE ALL FROM ENDPOINT {}", quoted(&endpoint.name));
    stream(&session, form, &format!("retrieve the rows of {}", endpoint.name), &sql)
}

/// The rows of a statement in binary form: each is a tuple of `COPY … (FORMAT binary)`.
pub(super) fn stream(
    session: &Session,
    form: &Form,
    doing: &str,
    sql: &str,
) -> Result<Vec<RecordBatch>, SourceError> {
    let mut stream = CopyStream::of_tuples(form);
    session.tuples(doing, sql, |tuple| stream.push(tuple))?;
    stream.finish()
}
