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
    /// The user who connects.
    pub(super) user: String,
    /// Whether this server coordinates others.
    pub(super) is_citus: bool,
    pub(super) is_coordinator: bool,
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
    /// The columns that it may not read.
    pub(super) unreadable: Vec<String>,
}

impl ServerFacts {
    pub(super) async fn read(session: &Session) -> Result<Self, SourceError> {
        let asked = session.rows(
            "ask about the server",
            "SELECT current_setting('server_version_num')::int4 AS version, \
                    current_setting('block_size')::int4 AS block_bytes, \
                    current_setting('server_encoding') AS encoding, \
                    current_setting('data_checksums') = 'on' AS has_checksums, \
                    pg_is_in_recovery() AS is_in_recovery, s.*, session_user::text AS user, \
                    (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) \
                        OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_checkpoint' \
                            AND pg_has_role(session_user, oid, 'USAGE')) AS may_checkpoint, \
                    (SELECT min(quote_ident(n.nspname)) || '.get_raw_page' FROM pg_proc p \
                        JOIN pg_namespace n ON n.oid = p.pronamespace \
                        WHERE p.proname = 'get_raw_page' AND p.pronargs = 3 \
                        AND (SELECT rolsuper FROM pg_roles WHERE rolname = session_user)) AS raw_page, \
                    to_regclass('pg_dist_partition') IS NOT NULL \
                        AND to_regclass('pg_dist_placement') IS NOT NULL AS is_citus, \
                    to_regclass('gp_segment_configuration') IS NOT NULL \
                        AND to_regclass('gp_distribution_policy') IS NOT NULL AS is_coordinator \
             FROM (SELECT coalesce(bool_or(name LIKE 'gp\\_%'), false) AS is_greenplum, \
                    min(name) FILTER (WHERE name LIKE '%encryption%' AND name LIKE 'data%' \
                        AND setting NOT IN ('', 'off', '0', 'none')) AS encryption, \
                    min(setting) FILTER (WHERE name = 'data_directory') AS data_folder \
                FROM pg_settings) s",
            &[],
        );
        let rows = asked.await?;
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
            user: row.get("user"),
            is_citus: row.get("is_citus"),
            is_coordinator: row.get("is_coordinator"),
        })
    }
}

impl Rights {
    /// Whether these columns may be read.
    pub(super) fn are_enough(&self, columns: &[&TableColumn]) -> bool {
        self.uses_schema && self.unreadable_of(columns).is_empty()
    }

    fn unreadable_of<'a>(&self, columns: &[&'a TableColumn]) -> Vec<&'a str> {
        let names = columns.iter().map(|column| column.name.as_str());
        names.filter(|name| self.unreadable.iter().any(|column| column == name)).collect()
    }
}

/// Every reason against reading a table's pages, from what is known before anything is locked.
pub(super) fn reasons(
    server: &ServerFacts,
    relation: &Relation,
    columns: &[&TableColumn],
) -> Vec<String> {
    let mut reasons = Vec::new();
    against_rights(&relation.rights, columns, &mut reasons);
    against_table(relation, &mut reasons);
    against_columns(server, relation, columns, &mut reasons);
    against_server(server, &mut reasons);
    reasons
}

fn against_rights(rights: &Rights, columns: &[&TableColumn], reasons: &mut Vec<String>) {
    let role = &rights.role;
    if !rights.uses_schema {
        reasons.push(format!("role {role} may not use its schema: GRANT USAGE ON SCHEMA"));
    }
    let unreadable = rights.unreadable_of(columns);
    if !unreadable.is_empty() {
        let columns = unreadable.join(", ");
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
