//! Decides how a table or a query is read, and reads it that way.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrowhop_types::Problems;

use super::batches::Form;
use super::direct::{Scan, Transport};
use super::gates::{self, ServerFacts};
use super::lock::{self, Locker, Settled};
use super::relation::{self, Relation};
use super::report::{PageCounts, Path};
use super::request::{Access, Request};
use super::server::{Server, Session};
use super::{catalog, copy, name};
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
    Direct { relation: Box<Relation>, names: Vec<String>, found: (Transport, Arc<Settled>) },
}

/// What was read.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) path: Path,
}

/// A query is only ever copied. Begins the transaction.
pub(super) fn of_query(
    session: &Session,
    query: &str,
    request: &Request,
) -> Result<Vec<Plan>, SourceError> {
    if request.access == Access::Direct {
        let text = "cannot be read directly; name a table, or choose another access";
        return Err(Problems::one("query", text).into());
    }
    session.wait(session.run("begin", lock::BEGIN))?;
    let query = query.trim().trim_end_matches(';');
    Ok(vec![Plan::Query(query.to_owned())])
}

/// The table of this name.
pub(super) fn relation(
    session: &Session,
    facts: &ServerFacts,
    name: &str,
) -> Result<Relation, SourceError> {
    Ok(Relation::find(session, &[name::checked(name)?], facts)?.remove(0))
}

/// A table, or each partition it consists of. Begins the transaction, and locks what is read directly.
pub(super) fn of_table(
    server: &Server,
    session: &Session,
    facts: &ServerFacts,
    relation: Relation,
    request: &Request,
) -> Result<Vec<Plan>, SourceError> {
    // Partitions may have the columns in another order.
    let names = relation.wanted_names(request)?;
    let all = with_filter(&names, request);
    let mut drafts = Vec::new();
    for relation in parts(session, relation, facts, &all, request)? {
        drafts.push(Draft::new(facts, relation, &all, request)?);
    }
    session.wait(session.run("begin", lock::BEGIN))?;
    let locker = Locker { server, session, facts };
    let settled = match request.access {
        Access::Copy => None,
        Access::Auto | Access::Direct => lock(&locker, &mut drafts, &all, request.access)?,
    };
    let mut problems = Problems::new();
    let mut plans = Vec::new();
    for Draft { relation, has_ranges, reasons, transport } in drafts {
        if request.access == Access::Direct {
            for reason in &reasons {
                let text = format!("cannot be read directly: {reason}");
                problems.push(relation.place(), text);
            }
        }
        let (relation, names) = (Box::new(relation), names.clone());
        plans.push(match transport.zip(settled.clone()) {
            Some(found) => Plan::Direct { relation, names, found },
            None => Plan::Copy { relation, names, has_ranges, why_not_direct: reasons },
        });
    }
    Ok(problems.or(plans)?)
}

/// A table that may be read directly if there is no reason against it.
struct Draft {
    relation: Relation,
    has_ranges: bool,
    reasons: Vec<String>,
    /// Where its pages are, once it is locked.
    transport: Option<Transport>,
}

impl Draft {
    fn new(
        facts: &ServerFacts,
        relation: Relation,
        names: &[String],
        request: &Request,
    ) -> Result<Self, Problems> {
        let columns = relation.wanted(Some(names))?;
        request.filter.as_ref().map(|filter| relation.condition(filter)).transpose()?;
        // Rows' places are read with the right to read all of the table.
        let has_ranges = facts.version >= RANGES_SINCE && relation.rights.to_all;
        let reasons = match request.access {
            Access::Copy => Vec::new(),
            Access::Auto | Access::Direct => gates::reasons(facts, &relation, &columns),
        };
        Ok(Self { relation, has_ranges, reasons, transport: None })
    }
}

/// Locks the tables against which there is no reason, and finds where their pages are, or reasons.
fn lock(
    locker: &Locker<'_>,
    drafts: &mut [Draft],
    names: &[String],
    access: Access,
) -> Result<Option<Arc<Settled>>, SourceError> {
    let fit = |drafts: &mut [Draft]| -> Vec<usize> {
        (0..drafts.len()).filter(|&i| drafts[i].reasons.is_empty()).collect()
    };
    let reads_files = match (fit(drafts).is_empty(), locker.reads_files()) {
        (true, _) => return Ok(None),
        (false, Ok(reads_files)) => reads_files,
        (false, Err(reasons)) => {
            fit(drafts).into_iter().for_each(|i| drafts[i].reasons.clone_from(&reasons));
            return Ok(None);
        }
    };
    let places = fit(drafts);
    let tables: Vec<&Relation> = places.iter().map(|&i| &drafts[i].relation).collect();
    for (i, reason) in places.into_iter().zip(locker.lock(&tables, access)?) {
        drafts[i].reasons.extend(reason);
    }
    let places = fit(drafts);
    if places.is_empty() {
        return Ok(None);
    }
    let settled = match locker.settle(reads_files)? {
        Ok(settled) => settled,
        Err(reason) => {
            places.into_iter().for_each(|i| drafts[i].reasons.push(reason.clone()));
            return Ok(None);
        }
    };
    // Anything may have been changed until they were locked.
    let tables: Vec<String> = places.iter().map(|&i| drafts[i].relation.name.clone()).collect();
    let relations = Relation::find(locker.session, &tables, locker.facts)?;
    for (i, relation) in places.into_iter().zip(relations) {
        let draft = &mut drafts[i];
        draft.reasons = gates::reasons(locker.facts, &relation, &relation.wanted(Some(names))?);
        if draft.reasons.is_empty() {
            match locker.transport(&relation, reads_files) {
                Ok(transport) => draft.transport = Some(transport),
                Err(reason) => draft.reasons.push(reason),
            }
        }
        draft.relation = relation;
    }
    Ok(Some(Arc::new(settled)))
}

/// These columns, and then those that only the condition looks at.
fn with_filter(names: &[String], request: &Request) -> Vec<String> {
    let more = request.filter.iter().flat_map(|filter| filter.columns());
    let more = more.filter(|column| !names.contains(column));
    names.iter().chain(more).cloned().collect()
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
    let leaves = catalog::leaves(session, &relation, request.filter.as_ref())?;
    let leaves = Relation::find(session, &leaves, facts)?;
    for leaf in &leaves {
        let may_be_read = leaf.rights.are_enough(&leaf.wanted(Some(names))?);
        if leaf.kind != 'r' || leaf.has_row_security || !may_be_read {
            return Ok(vec![relation]);
        }
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
                let queries = by_key(&form, &from, "the query's rows", request);
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
                    _ => by_key(&form, &relation.name, &relation.name, request),
                };
                let name = &relation.name;
                copied(name, form, server, session, &queries, request, why_not_direct)
            }
            Self::Direct { relation, names, found } => {
                direct(&relation, &found, &names, server, session, request, workspace)
            }
        }
    }
}

/// The queries by a hash of the key, or one for all.
fn by_key(form: &Form, from: &str, name: &str, request: &Request) -> Vec<copy::Part> {
    match &request.hash_key {
        Some(key) => copy::by_hash(form, from, name, key, request.threads),
        None => vec![copy::whole(form, from, name)],
    }
}

fn copied(
    name: &str,
    form: Form,
    server: &Server,
    session: &Session,
    queries: &[copy::Part],
    request: &Request,
    why_not_direct: Vec<String>,
) -> Result<Part, SourceError> {
    let batches = copy::read(server, session, &form, queries, request.threads)?;
    let connections = request.threads.min(queries.len());
    let path = Path::Copy { connections, why_not_direct };
    Ok(Part { name: name.to_owned(), schema: form.schema, batches, path })
}

fn direct(
    relation: &Relation,
    (transport, settled): &(Transport, Arc<Settled>),
    names: &[String],
    server: &Server,
    session: &Session,
    request: &Request,
    workspace: &Workspace,
) -> Result<Part, SourceError> {
    let all = with_filter(names, request);
    let columns = relation.wanted(Some(&all))?;
    let form = relation.form(session, &columns, request.filter.as_ref())?.within(workspace);
    let layout = relation.layout(session, &columns)?;
    let scan = Scan {
        relation,
        form: &form,
        layout: &layout,
        transport,
        rules: settled.rules,
        threads: request.threads,
    };
    let scanned = scan.read(|| settled.has_moved(session))?;
    let mut pages = PageCounts::default();
    let part = match scanned.fill(session, relation, &form, &mut pages)? {
        Some(batches) => {
            let path = Path::Direct { from_files: transport.is_files(), pages };
            Part { name: relation.name.clone(), schema: form.schema, batches, path }
        }
        None => {
            let queries = copy::by_pages(&form, relation, request.threads);
            let why = vec![MOVED.to_owned()];
            copied(&relation.name, form.clone(), server, session, &queries, request, why)?
        }
    };
    Ok(part.first_columns(names.len()))
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
