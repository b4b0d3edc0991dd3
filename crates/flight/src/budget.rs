//! Memory for shards, counted before it is taken: an upload that does not fit is refused before
//! its first batch arrives, and one that breaks off gives back what it had reserved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::FlightError;

/// How many bytes shards may take, and how many they take.
#[derive(Debug)]
pub struct ByteBudget {
    limit: u64,
    used: AtomicU64,
}

/// Bytes of a budget, given back when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<ByteBudget>,
    bytes: u64,
}

impl ByteBudget {
    /// A budget of `limit` bytes, all free.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Bytes that may be used.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in use, reservations included.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// [`FlightError::Full`] when fewer are free.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, FlightError> {
        let take = |used: u64| used.checked_add(bytes).filter(|&total| total <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map(|_| Reservation { budget: Arc::clone(self), bytes })
            .map_err(|used| FlightError::Full { wanted: bytes, used, limit: self.limit })
    }
}

impl Reservation {
    /// Bytes reserved.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes so many bytes more.
    ///
    /// # Errors
    /// [`FlightError::Full`] when fewer are free.
    pub fn grow(&mut self, bytes: u64) -> Result<(), FlightError> {
        let mut more = self.budget.reserve(bytes)?;
        self.bytes += std::mem::take(&mut more.bytes);
        Ok(())
    }

    /// All that is reserved; nothing is left.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let bytes = std::mem::take(&mut self.bytes);
        Self { budget: Arc::clone(&self.budget), bytes }
    }

    /// Gives back all but `bytes`; never takes more.
    pub fn shrink_to(&mut self, bytes: u64) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.budget.used.fetch_sub(surplus, Ordering::Relaxed);
        self.bytes -= surplus;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_overdrawn_and_gets_everything_back() {
        let budget = ByteBudget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(matches!(
            budget.reserve(41).unwrap_err(),
            FlightError::Full { wanted: 41, used: 60, limit: 100 }
        ));
        assert!(budget.reserve(u64::MAX).is_err());
        first.shrink_to(50);
        first.shrink_to(70);
        let second = budget.reserve(50).unwrap();
        assert_eq!((first.bytes(), budget.used()), (50, 100));
        assert!(first.grow(1).is_err());
        drop(second);
        first.grow(10).unwrap();
        let whole = first.take();
        assert_eq!((first.bytes(), whole.bytes(), budget.used()), (0, 60, 60));
        drop((first, whole));
        assert_eq!(budget.used(), 0);
    }
}
