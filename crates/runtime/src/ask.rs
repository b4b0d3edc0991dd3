//! Talking to an actor: `ask` waits for its reply, `tell` does not. Every wait has a limit, and a
//! failure says which message it was.

use std::any::type_name;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::dev::SendError;
use actix::{MailboxError, Message, Recipient};
use arrowhop_types::{Classify, ErrorClass};
use tracing::debug;

/// How many replies a process waits for at once. actix 0.13 gives every waiting request a place
/// beyond the mailbox's capacity, so that no mailbox ever refuses one: the limit must be here.
const WAITING_MAX: usize = 4_096;

static WAITING: Waiting = Waiting::new(WAITING_MAX);

/// An actor did not take a message, or did not reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The actor has stopped, or stopped before it replied.
    #[error("ask {message}: the actor has stopped")]
    Closed {
        /// The message's type.
        message: &'static str,
    },
    /// The actor took the message and did not reply in time; it may still act on it.
    #[error("ask {message}: no reply within {waited:?}")]
    Timeout {
        /// The message's type.
        message: &'static str,
        /// The limit.
        waited: Duration,
    },
    /// Too much is waiting already; the message was not delivered.
    #[error("ask {message}: too much is waiting; try again later")]
    Full {
        /// The message's type.
        message: &'static str,
    },
}

impl Classify for AskError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Closed { .. } | Self::Timeout { .. } => ErrorClass::Unavailable,
            Self::Full { .. } => ErrorClass::Overloaded,
        }
    }
}

/// Sends a message to an actor and waits for its reply, at most `timeout` in all.
///
/// # Errors
/// [`AskError::Closed`], [`AskError::Timeout`]; [`AskError::Full`] when the process waits for 4,096
/// replies already.
pub async fn ask<M>(to: &Recipient<M>, message: M, timeout: Duration) -> Result<M::Result, AskError>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    ask_within(&WAITING, to, message, timeout).await
}

/// Sends a message to an actor without waiting for anything.
///
/// # Errors
/// [`AskError::Closed`]; [`AskError::Full`] when the mailbox is full.
pub fn tell<M>(to: &Recipient<M>, message: M) -> Result<(), AskError>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    let name = short_name::<M>();
    to.try_send(message).map_err(|error| match error {
        SendError::Full(_) => AskError::Full { message: name },
        SendError::Closed(_) => AskError::Closed { message: name },
    })
}

async fn ask_within<M>(
    waiting: &Waiting,
    to: &Recipient<M>,
    message: M,
    timeout: Duration,
) -> Result<M::Result, AskError>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    let name = short_name::<M>();
    let Some(_place) = waiting.enter() else { return Err(AskError::Full { message: name }) };
    let asked_at = Instant::now();
    let reply = match tokio::time::timeout(timeout, to.send(message)).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(MailboxError::Closed)) => Err(AskError::Closed { message: name }),
        Ok(Err(MailboxError::Timeout)) | Err(_) => {
            Err(AskError::Timeout { message: name, waited: timeout })
        }
    };
    debug!(
        asked = name,
        took_us = asked_at.elapsed().as_micros(),
        failed = reply.is_err(),
        "asked"
    );
    reply
}

/// Counts those who wait, up to a limit.
struct Waiting {
    count: AtomicUsize,
    max: usize,
}

/// A place among those who wait, until it is dropped.
struct Place<'a>(&'a Waiting);

impl Waiting {
    const fn new(max: usize) -> Self {
        Self { count: AtomicUsize::new(0), max }
    }

    fn enter(&self) -> Option<Place<'_>> {
        let is_free = |count: usize| (count < self.max).then_some(count + 1);
        let entered = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_free);
        entered.is_ok().then(|| Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A type's name without its path and parameters.
fn short_name<T>() -> &'static str {
    let name = type_name::<T>();
    let name = name.split_once('<').map_or(name, |(name, _)| name);
    name.rsplit_once("::").map_or(name, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use actix::{Actor, ActorContext, AsyncContext, Context, Handler, System, WrapFuture};
    use tokio::sync::oneshot;

    use super::*;

    const SOON: Duration = Duration::from_millis(40);
    const LONG: Duration = Duration::from_secs(20);

    /// Doubles numbers; deaf while it holds.
    struct Doubler;

    impl Actor for Doubler {
        type Context = Context<Self>;

        fn started(&mut self, context: &mut Self::Context) {
            context.set_mailbox_capacity(1);
        }
    }

    struct Double(u32);

    impl Message for Double {
        type Result = u32;
    }

    impl Handler<Double> for Doubler {
        type Result = u32;

        fn handle(&mut self, double: Double, _: &mut Self::Context) -> u32 {
            double.0 * 2
        }
    }

    /// Take no message until the sender is used.
    struct Hold(oneshot::Receiver<()>);

    impl Message for Hold {
        type Result = ();
    }

    impl Handler<Hold> for Doubler {
        type Result = ();

        fn handle(&mut self, hold: Hold, context: &mut Self::Context) {
            let release = async { drop(hold.0.await) };
            context.wait(release.into_actor(self));
        }
    }

    struct Leave;

    impl Message for Leave {
        type Result = ();
    }

    impl Handler<Leave> for Doubler {
        type Result = ();

        fn handle(&mut self, _: Leave, context: &mut Self::Context) {
            context.stop();
        }
    }

    /// A doubler that holds, and what releases it.
    async fn holding() -> (Recipient<Double>, oneshot::Sender<()>) {
        let doubler = Doubler.start();
        let (release, held) = oneshot::channel();
        ask(&doubler.clone().recipient(), Hold(held), LONG).await.unwrap();
        (doubler.recipient(), release)
    }

    #[test]
    fn a_reply_arrives() {
        System::new().block_on(async {
            let doubler = Doubler.start().recipient();
            assert_eq!(ask(&doubler, Double(21), LONG).await, Ok(42));
        });
    }

    #[test]
    fn an_actor_that_took_the_message_and_is_silent_times_out() {
        System::new().block_on(async {
            let (doubler, _release) = holding().await;
            let error = ask(&doubler, Double(1), SOON).await.unwrap_err();
            assert_eq!(error, AskError::Timeout { message: "Double", waited: SOON });
            assert_eq!(error.class(), ErrorClass::Unavailable);
            assert_eq!(error.to_string(), "ask Double: no reply within 40ms");
        });
    }

    #[test]
    fn a_full_mailbox_refuses_to_be_told() {
        System::new().block_on(async {
            let (doubler, _release) = holding().await;
            tell(&doubler, Double(1)).unwrap();
            let error = tell(&doubler, Double(2)).unwrap_err();
            assert_eq!(error, AskError::Full { message: "Double" });
            assert_eq!(error.class(), ErrorClass::Overloaded);
        });
    }

    #[test]
    fn one_who_asks_waits_beyond_a_full_mailbox() {
        System::new().block_on(async {
            let (doubler, release) = holding().await;
            tell(&doubler, Double(1)).unwrap();
            let (first, second, ()) = tokio::join!(
                ask(&doubler, Double(2), LONG),
                ask(&doubler, Double(3), LONG),
                async { release.send(()).unwrap() }
            );
            assert_eq!((first, second), (Ok(4), Ok(6)));
        });
    }

    #[test]
    fn only_so_many_wait_at_once_and_places_are_given_back() {
        System::new().block_on(async {
            let waiting = Waiting::new(2);
            let (doubler, _release) = holding().await;
            let (first, second, third) = tokio::join!(
                ask_within(&waiting, &doubler, Double(1), SOON),
                ask_within(&waiting, &doubler, Double(2), SOON),
                ask_within(&waiting, &doubler, Double(3), SOON),
            );
            let timeout = Err(AskError::Timeout { message: "Double", waited: SOON });
            assert_eq!((first, second), (timeout.clone(), timeout));
            assert_eq!(third, Err(AskError::Full { message: "Double" }));
            assert_eq!(waiting.count.load(Ordering::Relaxed), 0);
        });
    }

    #[test]
    fn an_actor_that_has_stopped_is_unavailable() {
        System::new().block_on(async {
            let doubler = Doubler.start();
            ask(&doubler.clone().recipient(), Leave, LONG).await.unwrap();
            let doubler = doubler.recipient();
            while doubler.connected() {
                tokio::task::yield_now().await;
            }
            let asked = ask(&doubler, Double(1), LONG).await.unwrap_err();
            let told = tell(&doubler, Double(1)).unwrap_err();
            for error in [asked, told] {
                assert_eq!(error, AskError::Closed { message: "Double" });
                assert_eq!(error.class(), ErrorClass::Unavailable);
            }
        });
    }

    #[test]
    fn an_actor_that_stops_before_it_replies_is_unavailable() {
        System::new().block_on(async {
            let doubler = Doubler.start();
            let (release, held) = oneshot::channel();
            ask(&doubler.clone().recipient(), Hold(held), LONG).await.unwrap();
            let (leave, recipient) = (doubler.clone().recipient(), doubler.clone().recipient());
            tell(&leave, Leave).unwrap();
            let asking = ask(&recipient, Double(1), LONG);
            let (asked, ()) = tokio::join!(asking, async { release.send(()).unwrap() });
            assert_eq!(asked, Err(AskError::Closed { message: "Double" }));
        });
    }

    #[test]
    fn names_are_short() {
        assert_eq!(short_name::<Double>(), "Double");
        assert_eq!(short_name::<Option<Double>>(), "Option");
        assert_eq!(short_name::<u8>(), "u8");
    }
}
