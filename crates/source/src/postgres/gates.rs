//! Whether a table's pages may be read directly: rights, what the table is, what the server is. Every
//! reason against it is found, with what to do about it.

use std::path::PathBuf;

use super::kind::Kind;
use super::page::PAGE_BYTES;
use super::relation::{Relation, TableColumn};
use super::server::Session;
use crate::error::SourceError;

/// Versions whose layout of pages and tuples is known, as `server_version_num` has them.
const VERSIONS: std::ops::Range<i32> = 140_000..180_000;

/// What the server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerFacts {
    /// As `server_version_num` has it.
    pub(super) version: i32,
    pub(super) block_bytes: u32,
    pub(super) encoding: String,
    pub(super) has_checksums: bool,
    /// A standby, which cannot lock.
    pub(super) is_in_recovery: bool,
    /// A relative of PostgreSQL with a storage of its own.
    pub(super) is_greenplum: bool,
    /// A setting that says that files are encrypted.
    pub(super) encryption: Option<String>,
    /// Where its files are; nothing where the user may not know.
    pub(super) data_folder: Option<PathBuf>,
    /// Whether the user may write a checkpoint.
    pub(super) may_checkpoint: bool,
    /// Whether the user may call `get_raw_page`, and what it is called.
    pub(super) raw_page: Option<String>,
}

/// What the one on whose behalf a table is read may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rights {
    /// The role.
    pub(super) role: String,
    /// Whether it may use the schema.
    pub(super) uses_schema: bool,
    /// Whether it may read all of the table, rows' places (`ctid`) too.
    pub(super) to_all: bool,
    /// The wanted columns that it may not read.
    pub(super) unreadable: Vec<String>,
}

impl ServerFacts {
    pub(super) fn read(session: &Session) -> Result<Self, SourceError> {
        let rows = session.rows(
            "SELECT current_setting('server_version_num')::int4 AS version, \
                    current_setting('block_size')::int4 AS block_bytes, \
                    current_setting('server_encoding') AS encoding, \
                    current_setting('data_checksums') = 'on' AS has_checksums, \
                    pg_is_in_recovery() AS is_in_recovery, \
                    EXISTS (SELECT FROM pg_settings WHERE name LIKE 'gp\\_%') AS is_greenplum, \
                    (SELECT min(name) FROM pg_settings WHERE name LIKE '%encryption%' AND \
                        name LIKE 'data%' AND setting NOT IN ('', 'off', '0', 'none')) AS encryption, \
                    (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data_folder, \
                    (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) \
                        OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_checkpoint' \
                            AND pg_has_role(session_user, oid, 'USAGE')) AS may_checkpoint, \
                    (SELECT min(quote_ident(n.nspname)) || '.get_raw_page' FROM pg_proc p \
                        JOIN pg_namespace n ON n.oid = p.pronamespace \
                        WHERE p.proname = 'get_raw_page' AND p.pronargs = 3 \
                        AND (SELECT rolsuper FROM pg_roles WHERE rolname = session_user)) AS raw_page",
            &[],
        )?;
        let row = &rows[0];
        Ok(Self {
            version: row.get("version"),
            block_bytes: u32::try_from(row.get::<_, i32>("block_bytes")).unwrap_or(0),
            encoding: row.get("encoding"),
            has_checksums: row.get("has_checksums"),
            is_in_recovery: row.get("is_in_recovery"),
            is_greenplum: row.get("is_greenplum"),
            encryption: row.get("encryption"),
            data_folder: row.get::<_, Option<String>>("data_folder").map(PathBuf::from),
            may_checkpoint: row.get("may_checkpoint"),
            raw_page: row.get("raw_page"),
        })
    }
}

impl Rights {
    /// Whether the wanted columns may be read.
    pub(super) fn are_enough(&self) -> bool {
        self.uses_schema && self.unreadable.is_empty()
    }

    /// Of the role that reads: the one that was set, else the user.
    pub(super) fn read(
        session: &Session,
        relation: &Relation,
        columns: &[&TableColumn],
    ) -> Result<Self, SourceError> {
        let numbers: Vec<i16> = columns.iter().map(|column| column.number).collect();
        let rows = session.rows(
            "SELECT current_user::text AS role, \
                    has_schema_privilege(c.relnamespace, 'USAGE') AS uses_schema, \
                    has_table_privilege(c.oid, 'SELECT') AS to_all, \
                    ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid \
                        AND attnum = ANY($2) AND NOT has_table_privilege(c.oid, 'SELECT') \
                        AND NOT has_column_privilege(c.oid, attnum, 'SELECT') ORDER BY attnum) \
                        AS unreadable \
             FROM pg_class c WHERE c.oid = $1",
            &[&relation.oid, &numbers],
        )?;
        let row = &rows[0];
        Ok(Self {
            role: row.get("role"),
            uses_schema: row.get("uses_schema"),
            to_all: row.get("to_all"),
            unreadable: row.get("unreadable"),
        })
    }
}

/// Every reason against reading a table's pages, from what is known before anything is locked.
pub(super) fn reasons(
    server: &ServerFacts,
    relation: &Relation,
    columns: &[&TableColumn],
    rights: &Rights,
) -> Vec<String> {
    let mut reasons = Vec::new();
    against_rights(rights, &mut reasons);
    against_table(relation, &mut reasons);
    against_columns(server, relation, columns, &mut reasons);
    against_server(server, &mut reasons);
    reasons
}

fn against_rights(rights: &Rights, reasons: &mut Vec<String>) {
    let role = &rights.role;
    if !rights.uses_schema {
        reasons.push(format!("role {role} may not use its schema: GRANT USAGE ON SCHEMA"));
    }
    if !rights.unreadable.is_empty() {
        let columns = rights.unreadable.join(", ");
        reasons.push(format!("role {role} may not read {columns}: GRANT SELECT"));
    } else if !rights.to_all {
        reasons.push(format!(
            "role {role} may read columns of it only, not rows by their place: GRANT SELECT on the \
             table"
        ));
    }
}

fn against_table(relation: &Relation, reasons: &mut Vec<String>) {
    if relation.has_row_security {
        reasons.push("it has row-level security, which only queries honour".to_owned());
    }
    match relation.kind {
        'r' if relation.access_method != "heap" => {
            reasons.push(format!("its access method is {}, not heap", relation.access_method));
        }
        'r' => {}
        'm' => reasons.push("it is a materialised view, which cannot be locked".to_owned()),
        'v' => reasons.push("it is a view".to_owned()),
        'f' => reasons.push("it is a foreign table".to_owned()),
        'p' => reasons.push("it is partitioned, and not all partitions may be read".to_owned()),
        _ => reasons.push("it is no table".to_owned()),
    }
    if relation.has_children {
        reasons.push("tables inherit from it".to_owned());
    }
    match relation.persistence {
        'u' => reasons.push("it is unlogged: checkpoints do not write it out".to_owned()),
        't' => reasons.push("it is temporary: it is in another session's memory".to_owned()),
        _ => {}
    }
}

fn against_columns(
    server: &ServerFacts,
    relation: &Relation,
    columns: &[&TableColumn],
    reasons: &mut Vec<String>,
) {
    for column in columns {
        if !column.kind.as_ref().is_some_and(Kind::is_in_heap) {
            reasons.push(format!(
                "column `{}` is of type {}, which is read by the server alone: leave it out, or \
                 keep it as text",
                column.name, column.type_name
            ));
        }
    }
    for column in columns.iter().filter(|column| column.has_missing) {
        if !matches!(column.kind, Some(Kind::Scalar(_))) {
            reasons.push(format!(
                "column `{}` was added with an array as its default, which old rows do not hold: \
                 VACUUM FULL writes it into them",
                column.name
            ));
        }
    }
    let last = columns.iter().map(|column| column.number).max().unwrap_or(0);
    if relation.columns.iter().any(|column| column.number <= last && column.length < -1) {
        reasons.push("a column ends with a zero byte (cstring)".to_owned());
    }
    let has_text = columns.iter().any(|column| column.kind.as_ref().is_some_and(Kind::is_text));
    if has_text && server.encoding != "UTF8" {
        reasons.push(format!("text is in encoding {}, not UTF8", server.encoding));
    }
}

fn against_server(server: &ServerFacts, reasons: &mut Vec<String>) {
    if !VERSIONS.contains(&server.version) {
        let version = server.version / 10_000;
        reasons.push(format!("the server's version is {version}; pages of 14 to 17 are known"));
    }
    if server.block_bytes as usize != PAGE_BYTES {
        reasons.push(format!("pages have {} bytes, not {PAGE_BYTES}", server.block_bytes));
    }
    if server.is_greenplum {
        reasons.push("it is Greenplum's relative, with tuples of another layout".to_owned());
    }
    if cfg!(target_endian = "big") {
        reasons.push("this machine is big-endian".to_owned());
    }
    if let Some(setting) = &server.encryption {
        reasons.push(format!("its files are encrypted ({setting})"));
    }
    if server.is_in_recovery {
        reasons.push("the server is a standby, where nothing can be locked".to_owned());
    }
}
