//! Keeps writers out of tables while their pages are read, and finds where they are: in the reader's own
//! transaction, before it has a snapshot, but with the rights of the user who connects.

use std::fs::File;
use std::time::Duration;

use super::control_file;
use super::direct::{Means, Transport};
use super::gates::ServerFacts;
use super::page::PageRules;
use super::relation::Relation;
use super::request::Access;
use super::server::{Server, Session, quoted};
use crate::error::SourceError;

/// Begins the transaction in which rows are read. Its snapshot is taken by the first query in it.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How long a lock is waited for where reading by query would do as well; writers that come later
/// wait behind it.
const WAIT_AUTO: Duration = Duration::from_secs(1);
/// How long where nothing else will do.
const WAIT_DIRECT: Duration = Duration::from_secs(30);

const POSITION: &str = "SELECT pg_current_wal_insert_lsn() - '0/0'";
const NO_RAW_PAGES: &str = "nor are its pages to be had from the server's memory: CREATE EXTENSION \
                            pageinspect, and connect as a superuser";

/// Who locks tables: the user who connects, whoever's rights the rows are read with.
pub(super) struct Locker<'a> {
    pub(super) server: &'a Server,
    pub(super) session: &'a Session,
    pub(super) facts: &'a ServerFacts,
}

/// What holds of the pages of locked tables that were written out.
pub(super) struct Settled {
    pub(super) rules: PageRules,
    /// The end of the log when they had been written out; nothing where they need not be.
    position: Option<u64>,
}

impl Settled {
    /// Whether anything was written to the log since; then any page may have been.
    pub(super) fn has_moved(&self, session: &Session) -> Result<bool, SourceError> {
        let Some(then) = self.position else { return Ok(false) };
        let now = session.wait(session.texts("ask for the end of the log", POSITION))?;
        Ok(position(&now[0]) != then)
    }
}

impl Locker<'_> {
    /// Whether pages are read from files, rather than from the server's memory; or every reason against
    /// both.
    pub(super) fn reads_files(&self) -> Result<bool, Vec<String>> {
        let mut reasons = self.against_files();
        if reasons.is_empty() {
            return Ok(true);
        }
        if self.facts.raw_page.is_some() {
            return Ok(false);
        }
        reasons.push(NO_RAW_PAGES.to_owned());
        Err(reasons)
    }

    /// Locks tables until the transaction ends; of each the reason if it is not to be had. Locks that
    /// were taken before stay.
    pub(super) fn lock(
        &self,
        tables: &[&Relation],
        access: Access,
    ) -> Result<Vec<Option<String>>, SourceError> {
        let names: Vec<String> =
            tables.iter().map(|table| format!("ONLY {}", table.name)).collect();
        let wait = if access == Access::Direct { WAIT_DIRECT } else { WAIT_AUTO };
        let lock = format!(
            "SET LOCAL lock_timeout = {}; LOCK TABLE {} IN SHARE MODE; \
             SET LOCAL lock_timeout TO DEFAULT",
            wait.as_millis(),
            names.join(", ")
        );
        let sql = format!("SAVEPOINT locking; {}; RELEASE SAVEPOINT locking", self.as_user(&lock));
        let attempt = self.session.wait(self.session.run("lock tables", &sql));
        let Err(error) = attempt else { return Ok(vec![None; tables.len()]) };
        let undo = "ROLLBACK TO SAVEPOINT locking; RELEASE SAVEPOINT locking";
        self.session.wait(self.session.run("let go of locks", undo))?;
        if let [table] = tables {
            return Ok(vec![Some(self.reason(table, error, wait)?)]);
        }
        // One of them is the reason.
        let each = tables.iter().map(|table| Ok(self.lock(&[*table], access)?.remove(0)));
        each.collect()
    }

    /// Why a table is not locked, unless it is something else that is wrong.
    fn reason(
        &self,
        table: &Relation,
        error: SourceError,
        wait: Duration,
    ) -> Result<String, SourceError> {
        let (user, name) = (&self.facts.user, &table.name);
        match error.code() {
            Some("42501") => Ok(format!(
                "role {user} may not lock it: GRANT UPDATE, DELETE or TRUNCATE (since PostgreSQL 17 \
                 MAINTAIN) ON {name} TO {user}"
            )),
            Some("55P03" | "40P01") => Ok(format!("writers held it for {} s", wait.as_secs())),
            _ => Err(error),
        }
    }

    /// Has all that is locked written out, and makes sure that it is written where pages are read; or
    /// says why that cannot be.
    pub(super) fn settle(&self, reads_files: bool) -> Result<Result<Settled, String>, SourceError> {
        if !reads_files {
            // A page in the server's buffers is whole, and gets its checksum when it is written.
            let rules = PageRules { has_checksums: false, lsn_max: u64::MAX };
            return Ok(Ok(Settled { rules, position: None }));
        }
        let sql = format!("{POSITION}; CHECKPOINT; {POSITION}; {}", control_file::QUERY);
        let asked = self.as_user(&sql);
        let said = self.session.wait(self.session.texts("write a checkpoint", &asked))?;
        let [before, after, of_control @ ..] = said.as_slice() else {
            unreachable!("each query has a row")
        };
        let folder = self.facts.data_folder.as_ref().expect("nothing is against its files");
        if let Err(reason) = control_file::is_of(self.session, folder, of_control)? {
            return Ok(Err(reason));
        }
        let rules =
            PageRules { has_checksums: self.facts.has_checksums, lsn_max: position(before) };
        Ok(Ok(Settled { rules, position: Some(position(after)) }))
    }

    /// Where a table's pages are, or why they cannot be read.
    pub(super) fn transport(
        &self,
        relation: &Relation,
        reads_files: bool,
    ) -> Result<Transport, String> {
        if !reads_files {
            let function = self.facts.raw_page.clone().expect("it was looked for");
            let server = self.server.clone().with_role(None);
            let toast =
                (relation.toast != 0).then(|| format!("pg_toast.pg_toast_{}", relation.oid));
            let means = Means::RawPages(Box::new(server), function);
            return Ok(Transport { means, table: relation.name.clone(), toast });
        }
        let folder = self.facts.data_folder.clone().expect("nothing is against its files");
        let table = relation.file.clone().ok_or("it has no file")?;
        let toast = relation.toast_file.clone();
        for path in [Some(&table), toast.as_ref()].into_iter().flatten() {
            let path = folder.join(path);
            if let Err(error) = File::open(&path) {
                return Err(format!("{} cannot be read: {error}", path.display()));
            }
        }
        Ok(Transport { means: Means::Files(folder), table, toast })
    }

    /// Statements run with the rights of the user who connects.
    fn as_user(&self, sql: &str) -> String {
        match self.server.role() {
            Some(role) => format!("SET LOCAL ROLE NONE; {sql}; SET LOCAL ROLE {}", quoted(role)),
            None => sql.to_owned(),
        }
    }

    /// Every reason against reading the server's files.
    fn against_files(&self) -> Vec<String> {
        let (facts, user) = (self.facts, &self.facts.user);
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
}

fn position(text: &str) -> u64 {
    text.parse().expect("a difference of positions is a whole number")
}
