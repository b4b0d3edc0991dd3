//! Tables that several servers hold together, from the catalogs of Citus and of Greenplum and its
//! relatives: which server has which part, so that each is read where it lies. Each server answers for
//! itself, so there is a snapshot for each, and none of all.

use super::relation::Relation;
use super::server::{Server, Session};
use crate::error::SourceError;

/// One part of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) server: Server,
    /// What the part is called there.
    pub(super) table: String,
}

/// Where the parts of a table are; nothing if this server has all of it.
pub(super) fn placements(
    server: &Server,
    session: &Session,
    relation: &Relation,
) -> Result<Option<Vec<Placement>>, SourceError> {
    let known = session.rows(
        "SELECT to_regclass('pg_dist_partition') IS NOT NULL \
                AND to_regclass('pg_dist_placement') IS NOT NULL AS is_citus, \
                to_regclass('gp_segment_configuration') IS NOT NULL \
                AND to_regclass('gp_distribution_policy') IS NOT NULL AS is_greenplum",
        &[],
    )?;
    if known[0].get("is_citus") {
        return citus(server, session, relation);
    }
    if known[0].get("is_greenplum") {
        return greenplum(server, session, relation);
    }
    Ok(None)
}

/// Shards on workers. Of a reference table, which every worker has, the first copy is read.
fn citus(
    server: &Server,
    session: &Session,
    relation: &Relation,
) -> Result<Option<Vec<Placement>>, SourceError> {
    let rows = session.rows(
        "SELECT DISTINCT ON (s.shardid) n.nodename::text AS host, n.nodeport::int4 AS port, \
                shard_name(s.logicalrelid, s.shardid)::text AS name \
         FROM pg_dist_shard s JOIN pg_dist_placement p USING (shardid) \
         JOIN pg_dist_node n USING (groupid) \
         WHERE s.logicalrelid = $1::oid::regclass AND p.shardstate = 1 \
         AND n.noderole::text = 'primary' ORDER BY s.shardid, n.groupid",
        &[&relation.oid],
    )?;
    if rows.is_empty() {
        return Ok(None);
    }
    let placement = |row: &tokio_postgres::Row| Placement {
        server: server.at(&row.get::<_, String>("host"), port(row.get("port")), None),
        table: row.get("name"),
    };
    Ok(Some(rows.iter().map(placement).collect()))
}

/// Segments, each of which answers for itself in utility mode. A replicated table is read from the
/// first one.
fn greenplum(
    server: &Server,
    session: &Session,
    relation: &Relation,
) -> Result<Option<Vec<Placement>>, SourceError> {
    let policy = session.rows(
        "SELECT policytype::text AS policy FROM gp_distribution_policy WHERE localoid = $1",
        &[&relation.oid],
    )?;
    let Some(policy) = policy.first() else { return Ok(None) };
    let mut segments = session.rows(
        "SELECT hostname::text AS host, port::int4 AS port, \
                EXISTS (SELECT FROM pg_settings WHERE name = 'gp_session_role') AS is_old \
         FROM gp_segment_configuration WHERE role::text = 'p' AND content >= 0 ORDER BY content",
        &[],
    )?;
    if policy.get::<_, String>("policy") == "r" {
        segments.truncate(1);
    }
    let placement = |row: &tokio_postgres::Row| {
        // Since Greenplum 7 the setting has another name.
        let setting = if row.get("is_old") { "gp_session_role" } else { "gp_role" };
        let options = format!("-c {setting}=utility");
        let host: String = row.get("host");
        Placement {
            server: server.at(&host, port(row.get("port")), Some(&options)),
            table: relation.name.clone(),
        }
    };
    Ok(Some(segments.iter().map(placement).collect()))
}

fn port(number: i32) -> u16 {
    u16::try_from(number).unwrap_or(0)
}
