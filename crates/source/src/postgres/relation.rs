//! What the server's catalog says about a table, a partition or a query: the facts that decide how
//! it is read, and its columns.

use std::collections::{BTreeMap, BTreeSet};

use arrowhop_types::Problems;
use tokio_postgres::Row;

use super::batches::{Form, Wanted};
use super::condition::{Candidate, Condition};
use super::kind::{Kind, Scalar};
use super::request::Request;
use super::server::{Session, quoted};
use super::tuple::{Attribute, TupleLayout};
use super::value::Fields;
use crate::error::SourceError;
use crate::filter::Filter;
use crate::spec::ELEMENTS_MAX;

/// Columns named in a message about one that is missing.
const NAMES_SHOWN: usize = 20;

/// A table's facts (`pg_class`).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    /// As SQL takes it, quoted and with its schema.
    pub(super) name: String,
    /// `r` table, `p` partitioned, `m` materialised view, `v` view, `f` foreign, and others.
    pub(super) kind: char,
    /// `p` permanent, `u` unlogged, `t` temporary.
    pub(super) persistence: char,
    pub(super) has_row_security: bool,
    /// Whether other tables inherit from it.
    pub(super) has_children: bool,
    pub(super) access_method: String,
    /// The table of its long values; zero for none.
    pub(super) toast: u32,
    pub(super) pages: u32,
    pub(super) toast_pages: u32,
    /// The planner's estimate; nothing where there is none yet.
    pub(super) rows: Option<u64>,
    pub(super) columns: Vec<TableColumn>,
}

/// A column of a table (`pg_attribute`), dropped ones too, in the order of tuples.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TableColumn {
    pub(super) number: i16,
    pub(super) name: String,
    pub(super) type_name: String,
    pub(super) is_dropped: bool,
    /// Its length, −1 if values bring their own, −2 if they end with a zero.
    pub(super) length: i16,
    /// `c`, `s`, `i` or `d`: 1, 2, 4 or 8 bytes.
    pub(super) alignment: char,
    /// What it is in tuples that were written before it was added.
    pub(super) has_missing: bool,
    /// Whether only texts of the same bytes are equal.
    pub(super) has_plain_texts: bool,
    /// How it is read; of a dropped one nothing.
    pub(super) kind: Option<Kind>,
}

/// A type's facts (`pg_type`).
struct Type {
    base: u32,
    element: u32,
    is_array: bool,
}

impl Relation {
    /// Looks a table up by a name as SQL takes it.
    pub(super) fn find(session: &Session, name: &str, pages_of: u32) -> Result<Self, SourceError> {
        let rows = session.rows(
            "SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, \
                    c.relkind::text AS kind, c.relpersistence::text AS persistence, \
                    c.relrowsecurity, c.relhassubclass, coalesce(a.amname::text, '') AS method, \
                    c.reltoastrelid, c.reltuples::float8 AS rows, \
                    CASE WHEN c.relkind IN ('r', 'm', 't') THEN pg_relation_size(c.oid) ELSE 0 END \
                        AS bytes, \
                    coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) AS toast_bytes \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_am a ON a.oid = c.relam \
             WHERE c.oid = to_regclass($1)",
            &[&name],
        )?;
        let Some(row) = rows.first() else {
            let text = "does not exist, or its schema is not in search_path; give \"schema.table\", \
                        with \"\" around names that have capitals";
            return Err(Problems::one(format!("table {name}"), text).into());
        };
        let letter = |column: &str| row.get::<_, String>(column).chars().next().unwrap_or(' ');
        let pages = |column: &str| {
            let pages = row.get::<_, i64>(column) / i64::from(pages_of);
            u32::try_from(pages).unwrap_or(u32::MAX)
        };
        let estimate: f64 = row.get("rows");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
        let rows = (estimate >= 0.0).then_some(estimate as u64);
        let oid = row.get("oid");
        Ok(Self {
            oid,
            name: row.get("name"),
            kind: letter("kind"),
            persistence: letter("persistence"),
            has_row_security: row.get("relrowsecurity"),
            has_children: row.get("relhassubclass"),
            access_method: row.get("method"),
            toast: row.get("reltoastrelid"),
            pages: pages("bytes"),
            toast_pages: pages("toast_bytes"),
            rows,
            columns: table_columns(session, oid)?,
        })
    }

    /// Its name in messages.
    pub(super) fn place(&self) -> String {
        format!("table {}", self.name)
    }

    /// Its columns of these names, in this order; else all of them.
    pub(super) fn wanted(&self, names: Option<&[String]>) -> Result<Vec<&TableColumn>, Problems> {
        let live = || self.columns.iter().filter(|column| !column.is_dropped);
        let Some(names) = names else { return Ok(live().collect()) };
        let mut problems = Problems::new();
        let mut found = Vec::new();
        for name in names {
            match live().find(|column| column.name == *name) {
                Some(column) => found.push(column),
                None => {
                    let all: Vec<_> = live().map(|column| column.name.as_str()).collect();
                    let place = format!("{}, column `{name}`", self.place());
                    problems.push(place, missing_text(&all));
                }
            }
        }
        problems.or(found)
    }

    /// A condition, bound to its columns.
    pub(super) fn condition(&self, filter: &Filter) -> Result<Condition, Problems> {
        let live = || self.columns.iter().filter(|column| !column.is_dropped);
        let candidates: Vec<_> = live()
            .map(|column| Candidate {
                name: &column.name,
                kind: column.kind.as_ref().expect("a live column has a kind"),
                has_plain_texts: column.has_plain_texts,
            })
            .collect();
        let missing = || missing_text(&live().map(|it| it.name.as_str()).collect::<Vec<_>>());
        Condition::new(filter, &self.place(), &candidates, missing)
    }

    /// The names of the columns that are asked for.
    pub(super) fn wanted_names(&self, request: &Request) -> Result<Vec<String>, Problems> {
        let columns = self.wanted(request.columns.as_deref())?;
        Ok(columns.iter().map(|column| column.name.clone()).collect())
    }

    /// What its batches are of, shapes of arrays probed.
    pub(super) fn form(
        &self,
        session: &Session,
        columns: &[&TableColumn],
        filter: Option<&Filter>,
    ) -> Result<Form, SourceError> {
        let condition = filter.map(|filter| self.condition(filter)).transpose()?;
        let mut wanted = Vec::new();
        for column in columns {
            let kind = column.kind.clone().expect("a live column has a kind");
            let kind = probed(session, &self.name, &column.name, kind, condition.as_ref())?;
            wanted.push(Wanted { name: column.name.clone(), kind });
        }
        Ok(Form::new(self.place(), wanted, condition))
    }

    /// How its tuples are laid out as far as these columns go.
    pub(super) fn layout(
        &self,
        session: &Session,
        columns: &[&TableColumn],
    ) -> Result<TupleLayout, SourceError> {
        let last = columns.iter().map(|column| column.number).max().unwrap_or(0);
        let mut attributes = Vec::new();
        for column in self.columns.iter().filter(|column| column.number <= last) {
            let wanted = columns.iter().position(|wanted| wanted.number == column.number);
            let missing = match wanted {
                Some(_) if column.has_missing => missing(session, self.oid, column)?,
                _ => None,
            };
            attributes.push(Attribute {
                column: wanted,
                length: usize::try_from(column.length).ok(),
                alignment: match column.alignment {
                    'd' => 8,
                    'i' => 4,
                    's' => 2,
                    _ => 1,
                },
                missing,
            });
        }
        Ok(TupleLayout::new(attributes))
    }
}

impl Wanted {
    /// How a query names it.
    pub(super) fn expression(&self) -> String {
        let name = quoted(&self.name);
        match self.kind {
            Kind::Scalar(Scalar::Cast) => format!("{name}::text"),
            Kind::List(Scalar::Cast) | Kind::Tensor(Scalar::Cast, _) => format!("{name}::text[]"),
            _ => name,
        }
    }
}

/// What the batches of a query are of.
pub(super) fn query_form(
    session: &Session,
    query: &str,
    names: Option<&[String]>,
    filter: Option<&Filter>,
) -> Result<Form, SourceError> {
    let columns = session.columns(query)?;
    let types = types(session, columns.iter().map(|(_, oid)| *oid).collect())?;
    let all: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let mut problems = Problems::new();
    for (i, name) in all.iter().enumerate() {
        if all[..i].contains(name) {
            problems.push("query", format!("has two columns `{name}`; name one otherwise with AS"));
        }
    }
    let own: Vec<String> = all.iter().map(|&name| name.to_owned()).collect();
    let mut wanted = Vec::new();
    for name in names.unwrap_or(&own) {
        let Some((_, oid)) = columns.iter().find(|(column, _)| column == name) else {
            problems.push(format!("query, column `{name}`"), missing_text(&all));
            continue;
        };
        wanted.push((name.clone(), kind_of(*oid, &types)));
    }
    problems.or(())?;
    let kinds: Vec<Kind> = columns.iter().map(|(_, oid)| kind_of(*oid, &types)).collect();
    let candidate = |(name, kind)| Candidate { name, kind, has_plain_texts: false };
    let candidates: Vec<_> = all.iter().copied().zip(&kinds).map(candidate).collect();
    let bind = |filter| Condition::new(filter, "query", &candidates, || missing_text(&all));
    let condition = filter.map(bind).transpose()?;
    let mut probed_columns = Vec::new();
    let from = subquery(query);
    for (name, kind) in wanted {
        let kind = probed(session, &from, &name, kind, condition.as_ref())?;
        probed_columns.push(Wanted { name, kind });
    }
    Ok(Form::new("query".to_owned(), probed_columns, condition))
}

/// A query to select from. It may end with a comment, which ends with its line.
pub(super) fn subquery(query: &str) -> String {
    format!("({query}\n) AS source")
}

/// The leaves of a partitioned table, by name; itself, where it has none. Of a condition on its rows,
/// those that the server's planner would read; at least the first, whose columns are needed.
pub(super) fn leaves(
    session: &Session,
    relation: &Relation,
    filter: Option<&Filter>,
) -> Result<Vec<String>, SourceError> {
    let rows = session.rows(
        "SELECT n.nspname::text AS schema, c.relname::text AS relation, \
                quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name \
         FROM pg_partition_tree($1::oid::regclass) p JOIN pg_class c ON c.oid = p.relid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.isleaf ORDER BY 3",
        &[&relation.oid],
    )?;
    let planned = filter.map(|filter| planned(session, relation, filter)).transpose()?.flatten();
    let is_read = |row: &&Row| {
        let name = (row.get("schema"), row.get("relation"));
        planned.as_ref().is_none_or(|planned| planned.contains(&name))
    };
    let mut leaves: Vec<String> = rows.iter().filter(is_read).map(|row| row.get("name")).collect();
    if leaves.is_empty() {
        leaves.extend(rows.first().map(|row| row.get("name")));
    }
    Ok(leaves)
}

/// Schema and name of the tables that a plan reads; nothing where the reader may not have it made.
fn planned(
    session: &Session,
    relation: &Relation,
    filter: &Filter,
) -> Result<Option<BTreeSet<(String, String)>>, SourceError> {
    let (name, condition) = (&relation.name, relation.condition(filter)?.sql);
    let explain = format!("EXPLAIN (VERBOSE, FORMAT JSON) SELECT FROM {name} WHERE {condition}");
    let text = match session.text(&explain) {
        Err(error) if error.code() == Some("42501") => return Ok(None),
        found => found?,
    };
    let Ok(plan) = serde_json::from_str(&text) else { return Ok(None) };
    let mut found = BTreeSet::new();
    let mut left: Vec<&serde_json::Value> = vec![&plan];
    while let Some(value) = left.pop() {
        match value {
            serde_json::Value::Array(values) => left.extend(values),
            serde_json::Value::Object(node) => {
                let name = |key: &str| Some(node.get(key)?.as_str()?.to_owned());
                found.extend(name("Schema").zip(name("Relation Name")));
                left.extend(node.values());
            }
            _ => {}
        }
    }
    Ok(Some(found))
}

fn missing_text(all: &[&str]) -> String {
    let names: Vec<_> = all.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if all.len() > NAMES_SHOWN { ", …" } else { "" };
    format!("there is no such column; there are {}{more}", names.join(", "))
}

fn table_columns(session: &Session, oid: u32) -> Result<Vec<TableColumn>, SourceError> {
    let rows = session.rows(
        "SELECT attnum, attname::text, atttypid, attlen, attalign::text AS alignment, \
                attisdropped, atthasmissing, \
                coalesce((SELECT collisdeterministic FROM pg_collation c WHERE c.oid = attcollation), \
                    true) AS has_plain_texts, \
                CASE WHEN attisdropped THEN '' ELSE format_type(atttypid, atttypmod) END AS type \
         FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 ORDER BY attnum",
        &[&oid],
    )?;
    let types = types(session, rows.iter().map(|row| row.get("atttypid")).collect())?;
    let column = |row: &Row| {
        let is_dropped = row.get("attisdropped");
        TableColumn {
            number: row.get("attnum"),
            name: row.get("attname"),
            type_name: row.get("type"),
            is_dropped,
            length: row.get("attlen"),
            alignment: row.get::<_, String>("alignment").chars().next().unwrap_or('c'),
            has_missing: row.get("atthasmissing"),
            has_plain_texts: row.get("has_plain_texts"),
            kind: (!is_dropped).then(|| kind_of(row.get("atttypid"), &types)),
        }
    };
    Ok(rows.iter().map(column).collect())
}

/// The types of these OIDs, those that they are domains over, and those of arrays' elements.
fn types(session: &Session, oids: Vec<u32>) -> Result<BTreeMap<u32, Type>, SourceError> {
    let mut types = BTreeMap::new();
    let mut asked = oids;
    while !asked.is_empty() {
        let rows = session.rows(
            "SELECT oid, CASE WHEN typtype = 'd' THEN typbasetype ELSE 0::oid END AS base, \
                    typelem, typcategory = 'A' AND typlen = -1 AND typelem <> 0 AS is_array \
             FROM pg_type WHERE oid = ANY($1)",
            &[&asked],
        )?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let found = Type {
                base: row.get("base"),
                element: row.get("typelem"),
                is_array: row.get("is_array"),
            };
            types.insert(row.get("oid"), found);
        }
        let next = types
            .values()
            .flat_map(|of: &Type| [(of.base, of.base != 0), (of.element, of.is_array)].into_iter());
        asked = next
            .filter(|(oid, is_needed)| *is_needed && !types.contains_key(oid))
            .map(|(oid, _)| oid)
            .collect();
        asked.sort_unstable();
        asked.dedup();
    }
    Ok(types)
}

/// How a type is read.
fn kind_of(oid: u32, types: &BTreeMap<u32, Type>) -> Kind {
    let oid = base(oid, types);
    if let Some(scalar) = Scalar::of(oid) {
        return Kind::Scalar(scalar);
    }
    match types.get(&oid) {
        Some(of) if of.is_array => {
            Kind::List(Scalar::of(base(of.element, types)).unwrap_or(Scalar::Cast))
        }
        _ => Kind::Scalar(Scalar::Cast),
    }
}

/// The type below all domains.
fn base(mut oid: u32, types: &BTreeMap<u32, Type>) -> u32 {
    while let Some(of) = types.get(&oid).filter(|of| of.base != 0) {
        oid = of.base;
    }
    oid
}

/// A list whose first arrays have several axes has a fixed shape.
fn probed(
    session: &Session,
    from: &str,
    column: &str,
    kind: Kind,
    condition: Option<&Condition>,
) -> Result<Kind, SourceError> {
    let Kind::List(scalar) = kind else { return Ok(kind) };
    let name = quoted(column);
    let also = condition.map_or_else(String::new, |condition| format!(" AND {}", condition.sql));
    let rows = session.rows(
        &format!(
            "SELECT ARRAY(SELECT array_length({name}, axis) FROM \
             generate_series(1, array_ndims({name})) axis ORDER BY axis) AS shape \
             FROM {from} WHERE array_ndims({name}) >= 1{also} LIMIT 1"
        ),
        &[],
    )?;
    let shape: Vec<i32> = rows.first().map(|row| row.get("shape")).unwrap_or_default();
    if shape.len() < 2 {
        return Ok(Kind::List(scalar));
    }
    let shape: Vec<usize> = shape.iter().map(|&axis| usize::try_from(axis).unwrap_or(0)).collect();
    if shape
        .iter()
        .try_fold(1_usize, |count, axis| count.checked_mul(*axis))
        .is_none_or(|count| count > ELEMENTS_MAX)
    {
        let text =
            format!("holds arrays of shape {shape:?}; at most {ELEMENTS_MAX} elements are read");
        return Err(Problems::one(format!("column `{column}`"), text).into());
    }
    Ok(Kind::Tensor(scalar, shape))
}

/// What a column is where a tuple does not have it, in the binary protocol's form.
fn missing(
    session: &Session,
    table: u32,
    column: &TableColumn,
) -> Result<Option<Vec<u8>>, SourceError> {
    let query = format!(
        "SELECT (attmissingval::text::{}[])[1] FROM pg_attribute \
         WHERE attrelid = {table} AND attnum = {}",
        column.type_name, column.number
    );
    let mut found = None;
    session.copy(&query, |message| {
        // A header of 19 bytes, then the one tuple: its number of columns, the value's length.
        let field = message.get(21..).unwrap_or_default();
        if let Some(value) = Fields(field).next().ok().flatten() {
            found = Some(value.to_vec());
        }
        Ok(())
    })?;
    Ok(found)
}
