//! What a reading did: which way it took, and why not another.

use std::collections::BTreeMap;
use std::fmt;

use super::page::Fallback;

/// Pages read, and those read by SQL instead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageCounts {
    /// Pages whose rows were read directly.
    pub direct: u64,
    /// Pages that were read by SQL, by reason.
    pub fallen_back: BTreeMap<Fallback, u64>,
}

impl PageCounts {
    pub(super) fn add(&mut self, page: Result<(), Fallback>) {
        match page {
            Ok(()) => self.direct += 1,
            Err(reason) => *self.fallen_back.entry(reason).or_default() += 1,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.direct += other.direct;
        for (reason, count) in &other.fallen_back {
            *self.fallen_back.entry(*reason).or_default() += count;
        }
    }

    pub(super) fn all_fell_back(&mut self, reason: Fallback) {
        *self.fallen_back.entry(reason).or_default() += std::mem::take(&mut self.direct);
    }
}

/// The way a table, or a partition of one, was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// By queries, over so many connections.
    Copy {
        /// How many.
        connections: usize,
        /// Every reason against reading it directly.
        why_not_direct: Vec<String>,
    },
    /// Its pages were read directly.
    Direct {
        /// From its files, rather than by `get_raw_page`.
        from_files: bool,
        /// How many.
        pages: PageCounts,
    },
}

/// How one table, partition or query was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReport {
    /// Which.
    pub name: String,
    /// Which way.
    pub path: Path,
    /// Rows.
    pub rows: u64,
    /// Bytes in Arrow's buffers.
    pub bytes: u64,
    /// Which transactions they include, as `pg_current_snapshot` tells it.
    pub snapshot: String,
}

impl fmt::Display for PartReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} rows, ", self.name, self.rows)?;
        match &self.path {
            Path::Copy { connections, why_not_direct } => {
                let plural = if *connections == 1 { "" } else { "s" };
                write!(f, "by COPY over {connections} connection{plural}")?;
                if !why_not_direct.is_empty() {
                    write!(f, " (not directly: {})", why_not_direct.join("; "))?;
                }
                Ok(())
            }
            Path::Direct { from_files, pages } => {
                let from = if *from_files { "its files" } else { "get_raw_page" };
                write!(f, "{} pages directly from {from}", pages.direct)?;
                for (reason, count) in &pages.fallen_back {
                    write!(f, ", {count} by SQL ({})", reason.text())?;
                }
                Ok(())
            }
        }
    }
}
