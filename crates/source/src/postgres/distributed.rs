//! Tables that several servers hold together, from the catalogs of Citus and of Greenplum and its
//! relatives: which server has which part, so that each is read where it lies. Each server answers for
//! itself, so there is a snapshot for each, and none of all.

use tokio_postgres::types::Type;

use super::gates::ServerFacts;
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

/// Whether the servers of these parts let themselves be asked, each for itself, as Greenplum's segments do
/// in utility mode. A server that is not there is an error.
pub(super) fn may_be_asked(placements: &[Placement]) -> Result<bool, SourceError> {
    let Some(first) = placements.first() else { return Ok(true) };
    match Session::open(&first.server) {
        Ok(_) => Ok(true),
        Err(error) if error.code().is_some() => {
            tracing::debug!(%error, server = first.server.name(), "a segment refuses utility mode");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Where the parts of a table are; nothing if this server has all of it.
pub(super) fn placements(
    server: &Server,
    session: &Session,
    facts: &ServerFacts,
    relation: &Relation,
) -> Result<Option<Vec<Placement>>, SourceError> {
    if facts.is_citus {
        return citus(server, session, relation);
    }
    if facts.is_coordinator {
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
    let rows = session.wait(session.rows(
        &format!("look up the shards of {}", relation.name),
        "SELECT DISTINCT ON (s.shardid) n.nodename::text AS host, n.nodeport::int4 AS port, \
                shard_name(s.logicalrelid, s.shardid)::text AS name \
         FROM pg_dist_shard s JOIN pg_dist_placement p USING (shardid) \
         JOIN pg_dist_node n USING (groupid) \
         WHERE s.logicalrelid = $1::oid::regclass AND p.shardstate = 1 \
         AND n.noderole::text = 'primary' ORDER BY s.shardid, n.groupid",
        &[(&relation.oid, Type::OID)],
    ))?;
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
    let doing = format!("look up the segments of {}", relation.name);
    let policy = session.wait(session.rows(
        &doing,
        "SELECT policytype::text AS policy FROM gp_distribution_policy WHERE localoid = $1",
        &[(&relation.oid, Type::OID)],
    ))?;
    let Some(policy) = policy.first() else { return Ok(None) };
    let mut segments = session.wait(session.rows(
        &doing,
        "SELECT hostname::text AS host, port::int4 AS port, \
                EXISTS (SELECT FROM pg_settings WHERE name = 'gp_session_role') AS is_old \
         FROM gp_segment_configuration WHERE role::text = 'p' AND content >= 0 ORDER BY content",
        &[],
    ))?;
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
