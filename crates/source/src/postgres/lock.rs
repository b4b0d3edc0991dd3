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

/// Who locks tables, on one connection: the user who connects, whoever's rights the rows are read
/// with. Dropped, it lets go of them.
pub(super) struct Locker {
    server: Server,
    session: Session,
    user: String,
    pub(super) facts: ServerFacts,
}

/// A table that nobody can write as long as its locker lives.
pub(super) struct Locked {
    /// Its facts, as they are now that it is locked.
    pub(super) relation: Relation,
    pub(super) transport: Transport,
}

/// A locker whose tables are all written out.
pub(super) struct Settled {
    locker: Locker,
    pub(super) rules: PageRules,
    /// The end of the log when they had been written out; nothing where they need not be.
    position: Option<u64>,
}

impl Settled {
    /// Whether anything was written to the log since; then any page may have been.
    pub(super) fn has_moved(&self) -> Result<bool, SourceError> {
        let Some(then) = self.position else { return Ok(false) };
        Ok(position(&self.locker.session)? != then)
    }
}

impl Locker {
    pub(super) fn open(server: &Server) -> Result<Self, SourceError> {
        let server = server.clone().with_role(None);
        let session = Session::open(&server)?;
        let user = session.rows("SELECT session_user::text", &[])?[0].get(0);
        let facts = ServerFacts::read(&session)?;
        session.run("BEGIN")?;
        Ok(Self { server, session, user, facts })
    }

    /// Locks a table that passes all other gates, to read these columns with the reader's rights; or
    /// says every reason why not.
    pub(super) fn lock(
        &self,
        reader: &Session,
        relation: &Relation,
        names: &[String],
        access: Access,
    ) -> Result<Result<Locked, Vec<String>>, SourceError> {
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
        let transport =
            if by_files { self.files_of(&relation)? } else { Ok(self.pages_of(&relation)) };
        Ok(transport.map(|transport| Locked { relation, transport }).map_err(|reason| vec![reason]))
    }

    /// Has all that is locked written out, and makes sure that it is written where pages are read; or
    /// says why that cannot be.
    pub(super) fn settle(self) -> Result<Result<Settled, String>, SourceError> {
        if !self.against_files().is_empty() {
            // A page in the server's buffers is whole, and gets its checksum when it is written.
            let rules = PageRules { has_checksums: false, lsn_max: u64::MAX };
            return Ok(Ok(Settled { locker: self, rules, position: None }));
        }
        let lsn_max = position(&self.session)?;
        self.session.run("CHECKPOINT")?;
        let position = Some(position(&self.session)?);
        let folder = self.facts.data_folder.as_ref().expect("nothing is against its files");
        if let Err(reason) = control_file::is_of(&self.session, folder)? {
            return Ok(Err(reason));
        }
        let rules = PageRules { has_checksums: self.facts.has_checksums, lsn_max };
        Ok(Ok(Settled { locker: self, rules, position }))
    }

    /// Waits for the lock; a reason if it is not to be had.
    fn wait(&self, relation: &Relation, access: Access) -> Result<Option<String>, SourceError> {
        let (user, name) = (&self.user, &relation.name);
        let wait = if access == Access::Direct { WAIT_DIRECT } else { WAIT_AUTO };
        let attempt = self.session.run(&format!(
            "SAVEPOINT locking; SET LOCAL lock_timeout = {}; LOCK TABLE ONLY {name} IN SHARE MODE",
            wait.as_millis()
        ));
        let Err(error) = attempt else { return Ok(None) };
        // Locks that were taken before stay.
        self.session.run("ROLLBACK TO SAVEPOINT locking")?;
        match error.code() {
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

    /// The files of a table, or why they cannot be read.
    fn files_of(&self, relation: &Relation) -> Result<Result<Transport, String>, SourceError> {
        let folder = self.facts.data_folder.clone().expect("nothing is against its files");
        let paths = self.session.rows(
            "SELECT pg_relation_filepath($1::oid::regclass), \
                    pg_relation_filepath(nullif($2::oid, 0::oid)::regclass)",
            &[&relation.oid, &relation.toast],
        )?;
        let (table, toast): (String, Option<String>) = (paths[0].get(0), paths[0].get(1));
        for path in [Some(&table), toast.as_ref()].into_iter().flatten() {
            let path = folder.join(path);
            if let Err(error) = File::open(&path) {
                return Ok(Err(format!("{} cannot be read: {error}", path.display())));
            }
        }
        Ok(Ok(Transport { means: Means::Files(folder), table, toast }))
    }

    /// A table's pages in the server's buffers.
    fn pages_of(&self, relation: &Relation) -> Transport {
        let function = self.facts.raw_page.clone().expect("it was looked for");
        let means = Means::RawPages(Box::new(self.server.clone()), function);
        let toast = (relation.toast != 0).then(|| format!("pg_toast.pg_toast_{}", relation.oid));
        Transport { means, table: relation.name.clone(), toast }
    }
}

/// The end of the log.
fn position(session: &Session) -> Result<u64, SourceError> {
    let rows = session.rows("SELECT (pg_current_wal_insert_lsn() - '0/0')::text", &[])?;
    let position: String = rows[0].get(0);
    Ok(position.parse().expect("a difference of positions is a whole number"))
}
