//! Keeps writers out of a table while its pages are read, and finds where they are.

use std::fs::File;
use std::time::Duration;

use super::control_file;
use super::direct::{Means, Transport};
use super::gates::{self, Rights, ServerFacts};
use super::page::PageRules;
use super::relation::Relation;
use super::request::Access;
use super::server::{Server, Session};
use crate::error::SourceError;

/// How long a lock is waited for where reading by query would do as well; writers that come later
/// wait behind it.
const WAIT_AUTO: Duration = Duration::from_secs(1);
/// How long where nothing else will do.
const WAIT_DIRECT: Duration = Duration::from_secs(30);

const NO_RAW_PAGES: &str = "nor are its pages to be had from the server's memory: CREATE EXTENSION \
                            pageinspect, and connect as a superuser";

/// A table that nobody can write as long as this lives.
pub(super) struct Locked {
    session: Session,
    /// Its facts, as they are now that it is locked.
    pub(super) relation: Relation,
    pub(super) transport: Transport,
    pub(super) rules: PageRules,
    /// The end of the log when all pages had been written out.
    position: u64,
}

impl Locked {
    /// Whether anything was written to the log since; then any page may have been.
    pub(super) fn has_moved(&self) -> Result<bool, SourceError> {
        Ok(self.transport.is_files() && position(&self.session)? != self.position)
    }
}

/// Who locks tables: the user who connects, whoever's rights the rows are read with.
pub(super) struct Locker {
    server: Server,
    session: Session,
    user: String,
    pub(super) facts: ServerFacts,
}

/// A lock, or every reason why there is none.
type Locking = Result<Result<Locked, Vec<String>>, SourceError>;

impl Locker {
    pub(super) fn open(server: &Server) -> Result<Self, SourceError> {
        let server = server.clone().with_role(None);
        let session = Session::open(&server)?;
        let user = session.rows("SELECT session_user::text", &[])?[0].get(0);
        let facts = ServerFacts::read(&session)?;
        Ok(Self { server, session, user, facts })
    }

    /// Locks a table that passes all other gates, to read these columns with the reader's rights.
    pub(super) fn lock(
        self,
        reader: &Session,
        relation: &Relation,
        names: &[String],
        access: Access,
    ) -> Locking {
        let mut reasons = self.against_files();
        let by_files = reasons.is_empty();
        if !by_files && self.facts.raw_page.is_none() {
            reasons.push(NO_RAW_PAGES.to_owned());
            return Ok(Err(reasons));
        }
        if let Some(reason) = self.wait(relation, access)? {
            return Ok(Err(vec![reason]));
        }
        // Anything may have been changed until it was locked.
        let relation = Relation::find(&self.session, &relation.name, self.facts.block_bytes)?;
        let columns = relation.wanted(Some(names))?;
        let rights = Rights::read(reader, &relation, &columns)?;
        let reasons = gates::reasons(&self.facts, &relation, &columns, &rights);
        if !reasons.is_empty() {
            return Ok(Err(reasons));
        }
        if by_files { self.files_of(relation) } else { self.raw_pages_of(relation) }
    }

    /// Waits for the lock; a reason if it is not to be had.
    fn wait(&self, relation: &Relation, access: Access) -> Result<Option<String>, SourceError> {
        let (user, name) = (&self.user, &relation.name);
        let wait = if access == Access::Direct { WAIT_DIRECT } else { WAIT_AUTO };
        let attempt = self.session.run(&format!(
            "BEGIN; SET LOCAL lock_timeout = {}; LOCK TABLE ONLY {name} IN SHARE MODE",
            wait.as_millis()
        ));
        let Err(error) = attempt else { return Ok(None) };
        match code(&error) {
            Some("42501") => Ok(Some(format!(
                "role {user} may not lock it: GRANT UPDATE, DELETE or TRUNCATE (since PostgreSQL 17 \
                 MAINTAIN) ON {name} TO {user}"
            ))),
            Some("55P03" | "40P01") => {
                Ok(Some(format!("writers held it for {} s", wait.as_secs())))
            }
            _ => Err(error),
        }
    }

    /// Every reason against reading the server's files.
    fn against_files(&self) -> Vec<String> {
        let (facts, user) = (&self.facts, &self.user);
        let mut reasons = Vec::new();
        match &facts.data_folder {
            None => reasons.push(format!(
                "role {user} may not know where the files are: GRANT pg_read_all_settings TO {user}"
            )),
            Some(folder) => {
                if let Err(error) = File::open(folder.join(control_file::PATH)) {
                    reasons.push(format!(
                        "its files cannot be read by this process ({}: {error}): run on the \
                         server's machine, as a user in the group of a cluster that was made with \
                         initdb --allow-group-access",
                        folder.display()
                    ));
                }
            }
        }
        if !facts.may_checkpoint {
            let next = match facts.version {
                ..150_000 => "connect as a superuser".to_owned(),
                _ => format!("GRANT pg_checkpoint TO {user}"),
            };
            reasons.push(format!("role {user} may not write a checkpoint: {next}"));
        }
        reasons
    }

    fn files_of(self, relation: Relation) -> Locking {
        let lsn_max = position(&self.session)?;
        self.session.run("CHECKPOINT")?;
        let position = position(&self.session)?;
        let folder = self.facts.data_folder.expect("files are read where their folder is known");
        if let Err(reason) = control_file::is_of(&self.session, &folder)? {
            return Ok(Err(vec![reason]));
        }
        let paths = self.session.rows(
            "SELECT pg_relation_filepath($1::oid::regclass), \
                    pg_relation_filepath(nullif($2::oid, 0::oid)::regclass)",
            &[&relation.oid, &relation.toast],
        )?;
        let (table, toast) = (paths[0].get(0), paths[0].get(1));
        let transport = Transport { means: Means::Files(folder), table, toast };
        let rules = PageRules { has_checksums: self.facts.has_checksums, lsn_max };
        Ok(Ok(Locked { session: self.session, relation, transport, rules, position }))
    }

    fn raw_pages_of(self, relation: Relation) -> Locking {
        let function = self.facts.raw_page.expect("pages are asked for where there is a function");
        let means = Means::RawPages(self.server, function);
        let toast = (relation.toast != 0).then(|| format!("pg_toast.pg_toast_{}", relation.oid));
        let transport = Transport { means, table: relation.name.clone(), toast };
        // A page in the server's buffers is whole, and gets its checksum when it is written.
        let rules = PageRules { has_checksums: false, lsn_max: u64::MAX };
        Ok(Ok(Locked { session: self.session, relation, transport, rules, position: 0 }))
    }
}

/// The end of the log.
fn position(session: &Session) -> Result<u64, SourceError> {
    let rows = session.rows("SELECT (pg_current_wal_insert_lsn() - '0/0')::text", &[])?;
    let position: String = rows[0].get(0);
    Ok(position.parse().expect("a difference of positions is a whole number"))
}

/// PostgreSQL's code of an error.
fn code(error: &SourceError) -> Option<&str> {
    match error {
        SourceError::Postgres { source, .. } => source.code().map(|code| code.code()),
        _ => None,
    }
}
