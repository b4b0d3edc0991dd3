//! One function: the same work on every item, on all cores, with results in the items' order.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Threads that work at a time.
pub(crate) fn workers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// `work` on every item; the results in order.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    map_on(workers(), items, work)
}

/// The same, on so many threads at most.
pub(crate) fn map_on<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some((i, item)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            items.get(i).map(|item| (i, item))
        } {
            done.push((i, work(item)));
        }
        done
    };
    in_order(spawn(threads.min(items.len()), take))
}

/// Runs `work` on that many threads and returns what each made. A panic of one is passed on.
pub(crate) fn spawn<R: Send>(threads: usize, work: impl Fn() -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Numbers from 0 on, handed out to several threads, each of which begins on a stretch of its own and
/// goes on from there: what it reads lies together. Whoever is done takes from the longest that is left.
pub(crate) struct Stretches {
    /// The next number of each stretch, and its end.
    of: Vec<(AtomicUsize, usize)>,
    threads: AtomicUsize,
}

impl Stretches {
    /// So many numbers, for so many threads.
    pub(crate) fn new(count: usize, threads: usize) -> Self {
        let bound = |thread: usize| count * thread / threads;
        let stretch = |thread| (AtomicUsize::new(bound(thread)), bound(thread + 1));
        Self { of: (0..threads).map(stretch).collect(), threads: AtomicUsize::new(0) }
    }

    /// Where one more thread begins.
    pub(crate) fn begin(&self) -> usize {
        self.threads.fetch_add(1, Ordering::Relaxed) % self.of.len()
    }

    /// The next number, of the stretch that the thread is on, else of another, which it then is on.
    pub(crate) fn next(&self, on: &mut usize) -> Option<usize> {
        loop {
            let (next, end) = &self.of[*on];
            if next.load(Ordering::Relaxed) < *end {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number < *end {
                    return Some(number);
                }
            }
            let left = |(next, end): &(AtomicUsize, usize)| {
                end.saturating_sub(next.load(Ordering::Relaxed))
            };
            let longest = (0..self.of.len()).max_by_key(|&i| left(&self.of[i]))?;
            if left(&self.of[longest]) == 0 {
                return None;
            }
            *on = longest;
        }
    }
}

/// Numbered results of several threads, sorted by number.
pub(crate) fn in_order<R>(results: Vec<Vec<(usize, R)>>) -> Vec<R> {
    let mut results: Vec<_> = results.into_iter().flatten().collect();
    results.sort_unstable_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_handed_out_once_and_stretches_stay_together() {
        for (count, threads) in [(0, 3), (1, 4), (10, 1), (1_000, 3)] {
            let stretches = Stretches::new(count, threads);
            let taken = spawn(threads, || {
                let mut on = stretches.begin();
                std::iter::from_fn(|| stretches.next(&mut on)).collect::<Vec<_>>()
            });
            let mut all = taken.concat();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
        let stretches = Stretches::new(10, 2);
        let (mut one, mut two) = (stretches.begin(), stretches.begin());
        let taken = [&mut one, &mut two].map(|on| [stretches.next(on), stretches.next(on)]);
        assert_eq!(taken, [[Some(0), Some(1)], [Some(5), Some(6)]]);
        // The first one helps the second when its own are gone.
        let rest: Vec<_> = std::iter::from_fn(|| stretches.next(&mut one)).collect();
        assert_eq!(rest, [2, 3, 4, 7, 8, 9]);
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..1_000).collect();
        let squares: Vec<u64> = items.iter().map(|i| i * i).collect();
        assert_eq!(map(&items, |i| i * i), squares);
        assert!(map(&[] as &[u8], |i| *i).is_empty());
    }
}
