//! Questions to the server's catalog: tables, their columns and partitions, and types.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join;
use tokio_postgres::Row;
use tokio_postgres::types::Type as PostgresType;

use super::kind::{Kind, Scalar};
use super::relation::Relation;
use super::server::{Parameter, Session};
use crate::error::SourceError;
use crate::filter::Filter;

/// A type's facts (`pg_type`).
pub(super) struct Type {
    base: u32,
    element: u32,
    is_array: bool,
}

/// A table's row in the catalog, if there is one, and those of its columns.
pub(super) async fn look_up(
    session: &Session,
    name: &str,
) -> Result<(Vec<Row>, Vec<Row>), SourceError> {
    let doing = format!("look up table {name}");
    let parameters: [Parameter<'_>; 1] = [(&name, PostgresType::TEXT)];
    let table = session.rows(
        &doing,
        "SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, \
                c.relkind::text AS kind, c.relpersistence::text AS persistence, \
                c.relrowsecurity, c.relhassubclass, coalesce(a.amname::text, '') AS method, \
                c.reltoastrelid, c.reltuples::float8 AS rows, \
                CASE WHEN c.relkind IN ('r', 'm', 't') THEN pg_relation_size(c.oid) ELSE 0 END \
                    AS bytes, \
                coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) AS toast_bytes, \
                pg_relation_filepath(c.oid) AS file, \
                pg_relation_filepath(nullif(c.reltoastrelid, 0)) AS toast_file, \
                current_user::text AS role, \
                has_schema_privilege(c.relnamespace, 'USAGE') AS uses_schema, \
                has_table_privilege(c.oid, 'SELECT') AS to_all, \
                ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 \
                    AND NOT attisdropped AND NOT has_table_privilege(c.oid, 'SELECT') \
                    AND NOT has_column_privilege(c.oid, attnum, 'SELECT') ORDER BY attnum) \
                    AS unreadable \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_am a ON a.oid = c.relam \
         WHERE c.oid = to_regclass($1)",
        &parameters,
    );
    let columns = session.rows(
        &doing,
        "SELECT attnum, attname::text, atttypid, attlen, attalign::text AS alignment, \
                attisdropped, atthasmissing, \
                coalesce((SELECT collisdeterministic FROM pg_collation c WHERE c.oid = attcollation), \
                    true) AS has_plain_texts, \
                CASE WHEN attisdropped THEN '' ELSE format_type(atttypid, atttypmod) END AS type \
         FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 ORDER BY attnum",
        &parameters,
    );
    try_join(table, columns).await
}

/// The leaves of a partitioned table, by name; itself, where it has none. Of a condition on its rows,
/// those that the server's planner would read; at least the first, whose columns are needed.
pub(super) fn leaves(
    session: &Session,
    relation: &Relation,
    filter: Option<&Filter>,
) -> Result<Vec<String>, SourceError> {
    let rows = session.wait(session.rows(
        &format!("look up the partitions of {}", relation.name),
        "SELECT n.nspname::text AS schema, c.relname::text AS relation, \
                quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name \
         FROM pg_partition_tree($1::oid::regclass) p JOIN pg_class c ON c.oid = p.relid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.isleaf ORDER BY 3",
        &[(&relation.oid, PostgresType::OID)],
    ))?;
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
    let doing = format!("plan a query of {name}");
    let text = match session.wait(session.texts(&doing, &explain)) {
        Err(error) if error.code() == Some("42501") => return Ok(None),
        found => found?.concat(),
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

/// Of these OIDs the types that are not known here, those that they are domains over, and those of arrays' elements.
pub(super) fn types(session: &Session, oids: Vec<u32>) -> Result<BTreeMap<u32, Type>, SourceError> {
    let mut types = BTreeMap::new();
    let unknown = |oids: Vec<u32>| {
        let mut oids: Vec<u32> =
            oids.into_iter().filter(|oid| Scalar::of(*oid).is_none()).collect();
        oids.sort_unstable();
        oids.dedup();
        oids
    };
    let mut asked = unknown(oids);
    while !asked.is_empty() {
        let rows = session.wait(session.rows(
            "look up types",
            "SELECT oid, CASE WHEN typtype = 'd' THEN typbasetype ELSE 0::oid END AS base, \
                    typelem, typcategory = 'A' AND typlen = -1 AND typelem <> 0 AS is_array \
             FROM pg_type WHERE oid = ANY($1)",
            &[(&asked, PostgresType::OID_ARRAY)],
        ))?;
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
        let next = next.filter(|(oid, is_needed)| *is_needed && !types.contains_key(oid));
        asked = unknown(next.map(|(oid, _)| oid).collect());
    }
    Ok(types)
}

/// How a type is read.
pub(super) fn kind_of(oid: u32, types: &BTreeMap<u32, Type>) -> Kind {
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
