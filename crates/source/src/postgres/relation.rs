//! What the server's catalog says about a table, a partition or a query: the facts that decide how
//! it is read, and its columns.

use std::collections::BTreeMap;

use arrowhop_types::Problems;
use futures::future::try_join_all;
use tokio_postgres::Row;

use super::batches::{Form, Wanted};
use super::catalog::{Type, kind_of, look_up, types};
use super::condition::{Candidate, Condition};
use super::gates::{Rights, ServerFacts};
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
    /// Where its pages are, and those of its long values, below the data folder.
    pub(super) file: Option<String>,
    pub(super) toast_file: Option<String>,
    /// The planner's estimate; nothing where there is none yet.
    pub(super) rows: Option<u64>,
    pub(super) columns: Vec<TableColumn>,
    pub(super) rights: Rights,
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

impl Relation {
    /// Looks tables up by names as SQL takes them, and what the reader may do with them: all are asked
    /// for at once.
    pub(super) fn find(
        session: &Session,
        names: &[String],
        facts: &ServerFacts,
    ) -> Result<Vec<Self>, SourceError> {
        let asked = names.iter().map(|name| look_up(session, name));
        let found = session.wait(try_join_all(asked))?;
        let columns = found.iter().flat_map(|(_, columns)| columns);
        let types = types(session, columns.map(|row| row.get("atttypid")).collect())?;
        let mut problems = Problems::new();
        let mut relations = Vec::with_capacity(names.len());
        for (name, (row, columns)) in names.iter().zip(&found) {
            match row.first() {
                Some(row) => relations.push(Self::of(row, columns, &types, facts)),
                None => problems.push(
                    format!("table {name}"),
                    "does not exist, or its schema is not in search_path; give \"schema.table\", \
                     with \"\" around names that have capitals",
                ),
            }
        }
        Ok(problems.or(relations)?)
    }

    /// From the catalog's rows.
    fn of(row: &Row, columns: &[Row], types: &BTreeMap<u32, Type>, facts: &ServerFacts) -> Self {
        let letter = |column: &str| row.get::<_, String>(column).chars().next().unwrap_or(' ');
        let pages = |column: &str| {
            let pages = row.get::<_, i64>(column) / i64::from(facts.block_bytes.max(1));
            u32::try_from(pages).unwrap_or(u32::MAX)
        };
        let estimate: f64 = row.get("rows");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
        let rows = (estimate >= 0.0).then_some(estimate as u64);
        Self {
            oid: row.get("oid"),
            name: row.get("name"),
            kind: letter("kind"),
            persistence: letter("persistence"),
            has_row_security: row.get("relrowsecurity"),
            has_children: row.get("relhassubclass"),
            access_method: row.get("method"),
            toast: row.get("reltoastrelid"),
            pages: pages("bytes"),
            toast_pages: pages("toast_bytes"),
            file: row.get("file"),
            toast_file: row.get("toast_file"),
            rows,
            columns: columns.iter().map(|row| table_column(row, types)).collect(),
            rights: Rights {
                role: row.get("role"),
                uses_schema: row.get("uses_schema"),
                to_all: row.get("to_all"),
                unreadable: row.get("unreadable"),
            },
        }
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

fn missing_text(all: &[&str]) -> String {
    let names: Vec<_> = all.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if all.len() > NAMES_SHOWN { ", …" } else { "" };
    format!("there is no such column; there are {}{more}", names.join(", "))
}

fn table_column(row: &Row, types: &BTreeMap<u32, Type>) -> TableColumn {
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
        kind: (!is_dropped).then(|| kind_of(row.get("atttypid"), types)),
    }
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
    let rows = session.wait(session.rows(
        &format!("look at the arrays of column `{column}`"),
        &format!(
            "SELECT ARRAY(SELECT array_length({name}, axis) FROM \
             generate_series(1, array_ndims({name})) axis ORDER BY axis) AS shape \
             FROM {from} WHERE array_ndims({name}) >= 1{also} LIMIT 1"
        ),
        &[],
    ))?;
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
    let doing = format!("read the default of column `{}`", column.name);
    let mut found = None;
    session.copy(&doing, &query, |message| {
        // A header of 19 bytes, then the one tuple: its number of columns, the value's length.
        let field = message.get(21..).unwrap_or_default();
        if let Some(value) = Fields(field).next().ok().flatten() {
            found = Some(value.to_vec());
        }
        Ok(())
    })?;
    Ok(found)
}
