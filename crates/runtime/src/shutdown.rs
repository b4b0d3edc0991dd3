//! How a process is asked to stop: first after the visits under way, then at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::RuntimeError;

/// How soon to stop; the later one is more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Start nothing more; finish the visits under way.
    AfterVisit,
    /// Drop everything. What was committed is safe.
    Now,
}

/// A request to stop that many parts of a process watch. Clones share it; it never becomes less
/// urgent.
#[derive(Debug, Clone)]
pub struct StopSignal {
    requested: watch::Sender<Option<Stop>>,
}

impl StopSignal {
    /// Nobody has asked to stop.
    #[must_use]
    pub fn new() -> Self {
        Self { requested: watch::Sender::new(None) }
    }

    /// Asks to stop, unless something as urgent was asked already.
    pub fn request(&self, stop: Stop) {
        self.requested.send_if_modified(|requested| {
            let is_more = *requested < Some(stop);
            if is_more {
                *requested = Some(stop);
            }
            is_more
        });
    }

    /// Asks once more: first [`Stop::AfterVisit`], then [`Stop::Now`]. Returns what is asked now.
    pub fn press(&self) -> Stop {
        let stop = self.requested().map_or(Stop::AfterVisit, |_| Stop::Now);
        self.request(stop);
        stop
    }

    /// What was asked so far.
    #[must_use]
    pub fn requested(&self) -> Option<Stop> {
        *self.requested.borrow()
    }

    /// Waits until at least `stop` is asked, and returns what is asked.
    pub async fn reached(&self, stop: Stop) -> Stop {
        let mut watched = self.requested.subscribe();
        let reached = watched.wait_for(|requested| *requested >= Some(stop)).await;
        let reached = *reached.expect("`self` keeps the sender");
        reached.expect("waited for a request")
    }

    /// From now on each SIGINT or SIGTERM to this process presses. Call it in a tokio runtime.
    ///
    /// # Errors
    /// [`RuntimeError::Signal`].
    pub fn listen(&self) -> Result<(), RuntimeError> {
        let mut interrupts = open("SIGINT", SignalKind::interrupt())?;
        let mut terminations = open("SIGTERM", SignalKind::terminate())?;
        let stop = self.clone();
        tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    _ = interrupts.recv() => "SIGINT",
                    _ = terminations.recv() => "SIGTERM",
                };
                // Not inside `info!`, which evaluates nothing when the level is off.
                let asked = stop.press();
                info!(signal, stop = ?asked, "asked to stop");
            }
        });
        Ok(())
    }
}

impl Default for StopSignal {
    fn default() -> Self {
        Self::new()
    }
}

fn open(name: &'static str, kind: SignalKind) -> Result<Signal, RuntimeError> {
    signal(kind).map_err(|source| RuntimeError::Signal { signal: name, source })
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_second_press_is_more_urgent_and_nothing_takes_it_back() {
        let stop = StopSignal::new();
        assert_eq!(stop.requested(), None);
        assert_eq!(stop.press(), Stop::AfterVisit);
        assert_eq!(stop.requested(), Some(Stop::AfterVisit));
        assert_eq!(stop.press(), Stop::Now);
        assert_eq!(stop.press(), Stop::Now);
        stop.request(Stop::AfterVisit);
        assert_eq!(stop.requested(), Some(Stop::Now));
    }

    #[tokio::test]
    async fn every_clone_hears_of_it_and_now_counts_as_after_visit() {
        let stop = StopSignal::new();
        let watching = [Stop::AfterVisit, Stop::Now].map(|least| {
            let stop = stop.clone();
            tokio::spawn(async move { stop.reached(least).await })
        });
        tokio::task::yield_now().await;
        stop.request(Stop::Now);
        for watcher in watching {
            assert_eq!(timeout(LONG, watcher).await.unwrap().unwrap(), Stop::Now);
        }
        assert_eq!(timeout(LONG, stop.reached(Stop::AfterVisit)).await.unwrap(), Stop::Now);
    }

    #[tokio::test]
    async fn after_visit_is_not_now() {
        let stop = StopSignal::new();
        stop.request(Stop::AfterVisit);
        let waited = timeout(Duration::from_millis(20), stop.reached(Stop::Now)).await;
        assert!(waited.is_err());
    }

    #[tokio::test]
    async fn the_first_signal_lets_visits_finish_and_the_second_does_not() {
        let stop = StopSignal::new();
        stop.listen().unwrap();
        for (signal, expected) in [("-TERM", Stop::AfterVisit), ("-INT", Stop::Now)] {
            let process = std::process::id().to_string();
            assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
            assert_eq!(timeout(LONG, stop.reached(expected)).await.unwrap(), expected);
        }
    }
}
