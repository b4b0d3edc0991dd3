//! Decides how a table or a query is read, and reads it that way.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrowhop_types::Problems;

use super::batches::Form;
use super::direct::Scan;
use super::gates::{self, Rights, ServerFacts};
use super::lock::{Locked, Locker, Settled};
use super::relation::{self, Relation, TableColumn};
use super::report::{PageCounts, Path};
use super::request::{Access, Request};
use super::server::{Server, Session};
use super::{copy, name};
use crate::error::SourceError;
use crate::workspace::Workspace;

/// Since this version a range of pages is read without reading all others.
const RANGES_SINCE: i32 = 140_000;
/// Why a table is read by query although it was locked.
const MOVED: &str = "its long values were rewritten while they were read";

/// How one table, partition or query is to be read.
pub(super) enum Plan {
    /// A query, whose parts are told apart by a hash of a column.
    Query(String),
    /// A table, by query.
    Copy {
        relation: Box<Relation>,
        names: Vec<String>,
        has_ranges: bool,
        why_not_direct: Vec<String>,
    },
    /// A table that is locked, directly.
    Direct { locked: Box<Locked>, settled: Arc<Settled>, names: Vec<String> },
}

/// What was read.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) path: Path,
}

/// A query is only ever copied.
pub(super) fn of_query(query: &str, request: &Request) -> Result<Plan, Problems> {
    if request.access == Access::Direct {
        let text = "cannot be read directly; name a table, or choose another access";
        return Err(Problems::one("query", text));
    }
    let query = query.trim().trim_end_matches(';');
    Ok(Plan::Query(query.to_owned()))
}

/// The table of this name.
pub(super) fn relation(session: &Session, name: &str) -> Result<Relation, SourceError> {
    let bytes =
        session.rows("SELECT current_setting('block_size')::int8", &[])?[0].get::<_, i64>(0);
    Relation::find(session, &name::checked(name)?, u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// A table, or each partition it consists of.
pub(super) fn of_table(
    server: &Server,
    session: &Session,
    relation: Relation,
    request: &Request,
) -> Result<Vec<Plan>, SourceError> {
    let facts = ServerFacts::read(session)?;
    // Partitions may have the columns in another order.
    let names = relation.wanted_names(request)?;
    let all = with_filter(&names, request);
    let mut locker = None;
    let mut drafts = Vec::new();
    for relation in parts(session, relation, &facts, &all, request)? {
        drafts.push(draft(server, session, &facts, relation, &all, request, &mut locker)?);
    }
    let is_any_locked = drafts.iter().any(|draft| draft.locked.is_ok());
    let settled = match locker.filter(|_| is_any_locked) {
        Some(locker) => locker.settle()?.map(Arc::new),
        None => Err(String::new()),
    };
    let mut problems = Problems::new();
    let mut plans = Vec::new();
    for Draft { relation, has_ranges, locked } in drafts {
        let names = names.clone();
        let locked = locked.and_then(|locked| match &settled {
            Ok(settled) => Ok((locked, settled.clone())),
            Err(reason) => Err(vec![reason.clone()]),
        });
        plans.push(match locked {
            Ok((locked, settled)) => Plan::Direct { locked: Box::new(locked), settled, names },
            Err(why_not_direct) => {
                if request.access == Access::Direct {
                    for reason in &why_not_direct {
                        let text = format!("cannot be read directly: {reason}");
                        problems.push(relation.place(), text);
                    }
                }
                Plan::Copy { relation: Box::new(relation), names, has_ranges, why_not_direct }
            }
        });
    }
    Ok(problems.or(plans)?)
}

/// These columns, and then those that only the condition looks at.
fn with_filter(names: &[String], request: &Request) -> Vec<String> {
    let more = request.filter.iter().flat_map(|filter| filter.columns());
    let more = more.filter(|column| !names.contains(column));
    names.iter().chain(more).cloned().collect()
}

/// A table, and whether it is locked to be read directly, or every reason why not.
struct Draft {
    relation: Relation,
    has_ranges: bool,
    locked: Result<Locked, Vec<String>>,
}

/// Locks a table if it may be read directly; the locker is made for the first one.
fn draft(
    server: &Server,
    session: &Session,
    facts: &ServerFacts,
    relation: Relation,
    names: &[String],
    request: &Request,
    locker: &mut Option<Locker>,
) -> Result<Draft, SourceError> {
    let columns = relation.wanted(Some(names))?;
    request.filter.as_ref().map(|filter| relation.condition(filter)).transpose()?;
    let rights = Rights::read(session, &relation, &columns)?;
    // Rows' places are read with the right to read all of the table.
    let has_ranges = facts.version >= RANGES_SINCE && rights.to_all;
    let reasons = match request.access {
        Access::Copy => return Ok(Draft { relation, has_ranges, locked: Err(Vec::new()) }),
        Access::Auto | Access::Direct => gates::reasons(facts, &relation, &columns, &rights),
    };
    if !reasons.is_empty() {
        return Ok(Draft { relation, has_ranges, locked: Err(reasons) });
    }
    let locker = match locker {
        Some(locker) => locker,
        None => locker.insert(Locker::open(server)?),
    };
    let locked = locker.lock(session, &relation, names, request.access)?;
    Ok(Draft { relation, has_ranges, locked })
}

/// The partitions of a table, if each may be read on its own; else the table. Rights on the whole are
/// none on its parts, and its policies are not theirs.
fn parts(
    session: &Session,
    relation: Relation,
    facts: &ServerFacts,
    names: &[String],
    request: &Request,
) -> Result<Vec<Relation>, SourceError> {
    if relation.kind != 'p' || relation.has_row_security {
        return Ok(vec![relation]);
    }
    let mut leaves = Vec::new();
    for name in relation::leaves(session, &relation, request.filter.as_ref())? {
        let leaf = Relation::find(session, &name, facts.block_bytes)?;
        let columns = leaf.wanted(Some(names))?;
        let rights = Rights::read(session, &leaf, &columns)?;
        if leaf.kind != 'r' || leaf.has_row_security || !rights.are_enough() {
            return Ok(vec![relation]);
        }
        leaves.push(leaf);
    }
    Ok(leaves)
}

impl Plan {
    /// Reads it on the session's snapshot.
    pub(super) fn read(
        self,
        server: &Server,
        session: &Session,
        request: &Request,
        workspace: &Workspace,
    ) -> Result<Part, SourceError> {
        match self {
            Self::Query(query) => {
                let (columns, filter) = (request.columns.as_deref(), request.filter.as_ref());
                let form = relation::query_form(session, &query, columns, filter)?;
                let form = form.within(workspace);
                let from = relation::subquery(&query);
                let queries = by_key(&form, &from, request)?;
                copied("query", form, server, session, &queries, request, Vec::new())
            }
            Self::Copy { relation, names, has_ranges, why_not_direct } => {
                let columns = relation.wanted(Some(&names))?;
                let form = relation.form(session, &columns, request.filter.as_ref())?;
                let form = form.within(workspace);
                let is_plain = has_ranges
                    && matches!(relation.kind, 'r' | 'm')
                    && !relation.has_children
                    && relation.access_method == "heap";
                let queries = match (is_plain, &request.hash_key) {
                    (true, None) => copy::by_pages(&form, &relation, request.threads),
                    _ => by_key(&form, &relation.name, request)?,
                };
                let name = &relation.name;
                copied(name, form, server, session, &queries, request, why_not_direct)
            }
            Self::Direct { locked, settled, names } => {
                let columns = locked.relation.wanted(Some(&with_filter(&names, request)))?;
                let form = locked.relation.form(session, &columns, request.filter.as_ref())?;
                let form = form.within(workspace);
                let part = direct(&locked, &settled, &columns, form, server, session, request)?;
                Ok(part.first_columns(names.len()))
            }
        }
    }
}

/// The queries by a hash of the key, or one for all.
fn by_key(form: &Form, from: &str, request: &Request) -> Result<Vec<String>, Problems> {
    let Some(key) = &request.hash_key else { return Ok(vec![copy::select(form, from, None)]) };
    Ok(copy::by_hash(form, from, key, request.threads))
}

fn copied(
    name: &str,
    form: Form,
    server: &Server,
    session: &Session,
    queries: &[String],
    request: &Request,
    why_not_direct: Vec<String>,
) -> Result<Part, SourceError> {
    let batches = copy::read(server, session, &form, queries, request.threads)?;
    let connections = request.threads.min(queries.len());
    let path = Path::Copy { connections, why_not_direct };
    Ok(Part { name: name.to_owned(), schema: form.schema, batches, path })
}

fn direct(
    locked: &Locked,
    settled: &Settled,
    columns: &[&TableColumn],
    form: Form,
    server: &Server,
    session: &Session,
    request: &Request,
) -> Result<Part, SourceError> {
    let relation = &locked.relation;
    let layout = relation.layout(session, columns)?;
    let scan = Scan {
        relation,
        form: &form,
        layout: &layout,
        transport: &locked.transport,
        rules: settled.rules,
        threads: request.threads,
    };
    let scanned = scan.read(|| settled.has_moved())?;
    let mut pages = PageCounts::default();
    match scanned.fill(session, relation, &form, &mut pages)? {
        Some(batches) => {
            let path = Path::Direct { from_files: locked.transport.is_files(), pages };
            Ok(Part { name: relation.name.clone(), schema: form.schema, batches, path })
        }
        None => {
            let queries = copy::by_pages(&form, relation, request.threads);
            let why = vec![MOVED.to_owned()];
            copied(&relation.name, form.clone(), server, session, &queries, request, why)
        }
    }
}

impl Part {
    /// Its first columns.
    fn first_columns(self, count: usize) -> Self {
        if count == self.schema.fields().len() {
            return self;
        }
        let first: Vec<usize> = (0..count).collect();
        let of = |batch: &RecordBatch| batch.project(&first).expect("it has more columns");
        Self {
            batches: self.batches.iter().map(of).collect(),
            schema: self.schema.project(&first).expect("it has more columns").into(),
            ..self
        }
    }
}
