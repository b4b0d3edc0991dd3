//! How far the preparation of data is, for those who watch, and their wish that it stops.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::SourceError;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Rows come out of a database, or out of a file that is read as a whole.
    Reading,
    /// Labels and statistics are taken of the training rows.
    Looking,
    /// Rows are decoded into their shuffled places; of several inputs, once for each.
    Shuffling,
    /// Shards are put together, digested and written.
    Sharding,
}

impl Stage {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Looking => "looking through",
            Self::Shuffling => "shuffling",
            Self::Sharding => "sharding",
        }
    }
}

/// How far a preparation is. Shared by those who work and those who watch.
#[derive(Debug)]
pub struct Progress {
    at: Mutex<At>,
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Bytes of a row in this stage, where all rows have as many.
    row_bytes: AtomicU64,
    is_stopped: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct At {
    stage: Stage,
    rows_total: Option<u64>,
    began_at: Instant,
}

/// How far it was, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// What was being done.
    pub stage: Stage,
    /// Rows of this stage that were done.
    pub rows: u64,
    /// Rows of this stage, where that is known; of a database an estimate.
    pub rows_total: Option<u64>,
    /// Bytes that these rows take in memory.
    pub bytes: u64,
    /// Since the stage began.
    pub elapsed: Duration,
}

impl Default for Progress {
    fn default() -> Self {
        let at = At { stage: Stage::Reading, rows_total: None, began_at: Instant::now() };
        Self {
            at: Mutex::new(at),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            row_bytes: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
        }
    }
}

impl Progress {
    /// Makes the preparation end with [`SourceError::Stopped`] before its next chunk of rows.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Whether somebody stopped it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// How far it is now.
    #[must_use]
    pub fn glance(&self) -> Glance {
        let At { stage, rows_total, began_at } = *self.at();
        Glance {
            stage,
            rows: self.rows.load(Ordering::Relaxed),
            rows_total,
            bytes: self.bytes.load(Ordering::Relaxed),
            elapsed: began_at.elapsed(),
        }
    }

    /// Another stage begins, of so many rows, each of so many bytes if that is known.
    pub(crate) fn begin(&self, stage: Stage, rows_total: Option<u64>, row_bytes: u64) {
        let mut at = self.at();
        self.rows.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.row_bytes.store(row_bytes, Ordering::Relaxed);
        *at = At { stage, rows_total, began_at: Instant::now() };
    }

    /// More rows will come of the stage that is going on than were known of.
    pub(crate) fn expect(&self, rows: u64) {
        let mut at = self.at();
        at.rows_total = Some(at.rows_total.unwrap_or(0) + rows);
    }

    /// So many more rows are done, if it goes on.
    pub(crate) fn add_rows(&self, rows: u64) -> Result<(), SourceError> {
        self.add(rows, rows * self.row_bytes.load(Ordering::Relaxed))
    }

    /// So many more rows, of so many bytes, are done, if it goes on.
    pub(crate) fn add(&self, rows: u64, bytes: u64) -> Result<(), SourceError> {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.check()
    }

    /// Whether it goes on.
    pub(crate) fn check(&self) -> Result<(), SourceError> {
        if self.is_stopped() { Err(SourceError::Stopped) } else { Ok(()) }
    }

    fn at(&self) -> MutexGuard<'_, At> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Glance {
    /// How much longer the stage takes, if it goes on as it did.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let left = self.rows_total?.saturating_sub(self.rows);
        let share = left as f64 / self.rows as f64;
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * share).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_in_proportion_to_what_was_done() {
        let glance = Glance {
            stage: Stage::Shuffling,
            rows: 25,
            rows_total: Some(100),
            bytes: 0,
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(glance.left(), Some(Duration::from_secs(6)));
        assert_eq!(Glance { rows: 0, ..glance }.left(), None);
        assert_eq!(Glance { rows: 120, ..glance }.left(), Some(Duration::ZERO));
        assert_eq!(Glance { rows_total: None, ..glance }.left(), None);
    }

    #[test]
    fn rows_count_from_each_stage_s_beginning_until_somebody_stops_it() {
        let progress = Progress::default();
        progress.begin(Stage::Looking, Some(10), 0);
        progress.add(7, 70).unwrap();
        progress.begin(Stage::Shuffling, None, 8);
        progress.expect(3);
        progress.expect(2);
        progress.add_rows(1).unwrap();
        let glance = progress.glance();
        assert_eq!((glance.rows, glance.rows_total, glance.bytes), (1, Some(5), 8));
        progress.stop();
        assert!(matches!(progress.add(1, 8), Err(SourceError::Stopped)));
    }
}
