//! Where a process's actors live: one actix system on a thread of its own, beside tokio's threads.

use std::io;
use std::sync::Mutex;
use std::thread::{self, JoinHandle};

use actix::{Arbiter, System};
use tokio::sync::oneshot;

/// A running actix system. Dropping it stops its actors and waits for their threads.
#[derive(Debug)]
pub struct Actors {
    system: System,
    thread: Option<JoinHandle<()>>,
    arbiters: Mutex<Vec<Arbiter>>,
}

impl Actors {
    /// Starts a system.
    ///
    /// # Errors
    /// When the thread cannot be started.
    ///
    /// # Panics
    /// When the system's own event loop cannot be made.
    pub fn run() -> io::Result<Self> {
        let (started, start) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name("actors".to_owned()).spawn(move || {
            let runner = System::new();
            let system = System::current();
            // The receiver is waiting right below.
            drop(started.send(system));
            runner.run().expect("the actor system runs until it is stopped");
        })?;
        let system = start.recv().expect("the actor system starts");
        Ok(Self { system, thread: Some(thread), arbiters: Mutex::default() })
    }

    /// Starts actors on a new thread of the system, in `start`, and returns what it returns.
    ///
    /// # Panics
    /// When `start` panics.
    pub async fn start<T: Send + 'static>(&self, start: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, started) = oneshot::channel();
        let (made, arbiter) = oneshot::channel();
        self.system.arbiter().spawn_fn(move || {
            // Made on the system's thread, so that it belongs to the system.
            drop(made.send(Arbiter::new()));
        });
        let arbiter = arbiter.await.expect("the actor system makes a thread");
        arbiter.spawn_fn(move || {
            drop(done.send(start()));
        });
        self.arbiters.lock().expect("no one panics while holding it").push(arbiter);
        started.await.expect("starting actors does not panic")
    }
}

impl Drop for Actors {
    fn drop(&mut self) {
        // A system that stops tells its threads to stop, but does not wait for them.
        let arbiters = self.arbiters.get_mut().map(std::mem::take).unwrap_or_default();
        for arbiter in arbiters {
            arbiter.stop();
            if arbiter.join().is_err() {
                tracing::error!("an actor panicked");
            }
        }
        self.system.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the actor system panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix::{Actor, Context, Handler, Message, Recipient, SyncArbiter, SyncContext};

    use super::*;
    use crate::ask;

    struct Doubler;

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Double(u32);

    impl Actor for Doubler {
        type Context = SyncContext<Self>;
    }

    impl Handler<Double> for Doubler {
        type Result = u32;

        fn handle(&mut self, double: Double, _: &mut SyncContext<Self>) -> u32 {
            double.0 * 2
        }
    }

    struct Counter(u32);

    impl Actor for Counter {
        type Context = Context<Self>;
    }

    impl Handler<Double> for Counter {
        type Result = u32;

        fn handle(&mut self, add: Double, _: &mut Context<Self>) -> u32 {
            self.0 += add.0;
            self.0
        }
    }

    #[tokio::test]
    async fn actors_answer_from_their_own_threads() {
        let actors = Actors::run().unwrap();
        let doubler: Recipient<Double> =
            actors.start(|| SyncArbiter::start(1, || Doubler).recipient()).await;
        let counter: Recipient<Double> = actors.start(|| Counter(1).start().recipient()).await;
        let limit = Duration::from_secs(10);
        assert_eq!(ask(&doubler, Double(21), limit).await.unwrap(), 42);
        assert_eq!(ask(&counter, Double(2), limit).await.unwrap(), 3);
        drop(actors);
        assert!(ask(&counter, Double(2), limit).await.is_err());
    }
}
