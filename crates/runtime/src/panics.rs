//! What a panic does: inside [`contained`] it fails one visit; anywhere else it ends the process,
//! because an actor that died is otherwise just quiet.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::mpsc;
use std::thread;

use tracing::{dispatcher, error, warn};

/// Longer panic texts are cut: they end up in logs and in the catalog.
const TEXT_CHARS_MAX: usize = 1_000;

thread_local! {
    /// How many [`contained`] calls this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the thread's last contained panic was.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic, as told to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanicMessage {
    /// The thread's name; empty if it has none.
    pub thread: String,
    /// File, line and column, where the hook of [`install`] saw it.
    pub location: Option<String>,
    /// What it said.
    pub text: String,
}

impl fmt::Display for PanicMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.location {
            Some(location) => write!(f, " (panicked at {location})"),
            None => f.write_str(" (panicked)"),
        }
    }
}

impl std::error::Error for PanicMessage {}

/// What to do about a panic that nobody contains.
#[derive(Debug)]
pub enum Uncontained {
    /// End the process at once, without unwinding.
    EndProcess,
    /// Send it here, for tests: a test that receives one fails.
    Record(mpsc::Sender<PanicMessage>),
}

/// Installs the process's panic hook: every panic is logged with its thread and location; what is
/// not contained is dealt with as `uncontained` says. A later call replaces an earlier one.
pub fn install(uncontained: Uncontained) {
    panic::set_hook(Box::new(move |info| {
        let message = PanicMessage {
            thread: thread_name(),
            location: info.location().map(ToString::to_string),
            text: text(info.payload()),
        };
        if is_contained() {
            log(&message, false);
            LOCATION.set(message.location);
            return;
        }
        log(&message, true);
        match &uncontained {
            Uncontained::EndProcess => process::abort(),
            // A receiver that is gone belongs to a test that is over.
            Uncontained::Record(records) => drop(records.send(message)),
        }
    }));
}

/// Runs `body` such that its panic is an error here and not the end of the process. Only for a
/// trainer: whatever `body` was changing must be thrown away after a panic.
///
/// # Errors
/// The panic.
pub fn contained<T>(body: impl FnOnce() -> T) -> Result<T, PanicMessage> {
    LOCATION.set(None);
    DEPTH.set(DEPTH.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| PanicMessage {
        thread: thread_name(),
        location: LOCATION.take(),
        text: text(payload.as_ref()),
    })
}

/// Whether this thread is inside [`contained`].
fn is_contained() -> bool {
    DEPTH.try_with(Cell::get).is_ok_and(|depth| depth > 0)
}

fn log(message: &PanicMessage, is_fatal: bool) {
    let PanicMessage { thread, location, text } = message;
    let location = location.as_deref().unwrap_or("an unknown place");
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => backtrace.to_string(),
        _ => String::new(),
    };
    if !dispatcher::has_been_set() {
        eprintln!("thread {thread:?} panicked at {location}: {text}\n{backtrace}");
    } else if is_fatal {
        error!(thread, location, text, backtrace, "panic");
    } else {
        warn!(thread, location, text, backtrace, "contained panic");
    }
}

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// A panic's words: `panic!` gives a text, anything else has none.
fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words");
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    const CHILD: &str = "ARROWHOP_TEST_PANICS_IN_CHILD";

    #[test]
    fn a_contained_panic_is_an_error_with_its_words() {
        assert_eq!(contained(|| 7), Ok(7));
        let message = contained(|| -> () { panic!("shard {} is odd", 3) }).unwrap_err();
        assert_eq!(message.text, "shard 3 is odd");
        assert!(message.to_string().starts_with("shard 3 is odd (panicked"), "{message}");
        let silent = contained(|| panic::panic_any(5_u8)).unwrap_err();
        assert_eq!(silent.text, "a panic without words");
        let long = contained(|| -> () { panic!("{}", "é".repeat(5_000)) }).unwrap_err();
        assert_eq!(long.text.chars().count(), TEXT_CHARS_MAX);
    }

    #[test]
    fn containment_nests_and_ends() {
        assert!(!is_contained());
        let inner = contained(|| {
            let inner = contained(|| -> () { panic!("inner") }).unwrap_err();
            assert!(is_contained(), "the outer one still holds");
            inner
        });
        assert_eq!(inner.unwrap().text, "inner");
        assert!(!is_contained());
    }

    #[test]
    fn the_hook_records_only_what_is_not_contained_and_knows_where() {
        let (records, recorded) = mpsc::channel();
        install(Uncontained::Record(records));
        let contained = contained(|| -> () { panic!("contained by the trainer") }).unwrap_err();
        let location = contained.location.unwrap();
        assert!(location.starts_with(&format!("{}:", file!())), "{location}");
        let quiet = thread::Builder::new().name("hopper".into());
        quiet.spawn(|| panic!("nobody contains this")).unwrap().join().unwrap_err();
        let record = recorded.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(
            (record.thread.as_str(), record.text.as_str()),
            ("hopper", "nobody contains this")
        );
        assert!(record.location.unwrap().starts_with(&format!("{}:", file!())));
        assert!(recorded.try_recv().is_err(), "the contained panic was recorded");
        drop(panic::take_hook());
    }

    #[test]
    fn a_panic_in_any_thread_ends_the_process() {
        let name = "panics::tests::a_panic_in_any_thread_ends_the_process";
        if std::env::var_os(CHILD).is_some() {
            install(Uncontained::EndProcess);
            contained(|| -> () { panic!("a failed visit") }).unwrap_err();
            drop(thread::spawn(|| panic!("the hopper has died")).join());
            process::exit(0);
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(6), "{said}");
        assert!(said.contains("a failed visit"), "{said}");
        assert!(said.contains("the hopper has died"), "{said}");
    }
}
