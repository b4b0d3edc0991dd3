//! What is to be read of a database, and how.

use crate::filter::Filter;
use crate::parallel;

/// Which rows of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Of a table, a partitioned one, a view or a foreign table: a name as SQL takes it.
    Table(String),
    /// Of one `SELECT`. Their order is the query's own.
    Query(String),
}

impl Rows {
    /// What they are called in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Table(name) => format!("table {name}"),
            Self::Query(_) => "query".to_owned(),
        }
    }
}

/// Which way rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Directly where every gate passes, else by query.
    #[default]
    Auto,
    /// By query.
    Copy,
    /// Directly, or not at all.
    Direct,
}

/// What to read, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which rows.
    pub rows: Rows,
    /// Which columns, in this order; else all.
    pub columns: Option<Vec<String>>,
    /// Only rows that pass this condition.
    pub filter: Option<Filter>,
    /// Which way.
    pub access: Access,
    /// Reads a query, or a view, in parts by a hash of this column, one for each connection.
    pub hash_key: Option<String>,
    /// Reads a table that Citus or Greenplum distributes from the servers that hold its parts, rather
    /// than through the one that was named.
    pub segments: bool,
    /// Threads, each with a connection of its own where it needs one.
    pub threads: usize,
}

impl Request {
    /// All of some rows, any way, on all cores.
    #[must_use]
    pub fn of(rows: Rows) -> Self {
        let threads = parallel::workers();
        Self {
            rows,
            columns: None,
            filter: None,
            access: Access::Auto,
            hash_key: None,
            segments: true,
            threads,
        }
    }
}
