//! What a process logs: events to stderr, as text for people or as JSON for machines.

use std::ffi::OsString;
use std::io::IsTerminal;

use tracing::{Level, Subscriber, subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::RuntimeError;

/// The environment variable that filters the log: a level, or `target=level` pairs.
const FILTER_VARIABLE: &str = "ARROWHOP_LOG";

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line for people, coloured on a terminal unless `NO_COLOR` is set.
    Text,
    /// A JSON object per line.
    Json,
}

/// Starts logging to stderr. Unless `ARROWHOP_LOG` says otherwise our own events are logged from
/// `default_level`, those of libraries from WARN. Where logging has started already, nothing
/// changes.
///
/// # Errors
/// [`RuntimeError::LogFilter`] when `ARROWHOP_LOG` is no filter.
pub fn init(format: Format, default_level: Level) -> Result<(), RuntimeError> {
    let filter = filter(std::env::var_os(FILTER_VARIABLE), default_level)?;
    let is_colour_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_coloured = !is_colour_refused && std::io::stderr().is_terminal();
    let started =
        subscriber::set_global_default(make(format, filter, is_coloured, std::io::stderr));
    // The only failure is that another subscriber, of an earlier call or of a test, is in place.
    drop(started);
    Ok(())
}

fn filter(text: Option<OsString>, default_level: Level) -> Result<EnvFilter, RuntimeError> {
    let text = match text {
        Some(text) if !text.is_empty() => text.to_string_lossy().into_owned(),
        _ => format!("{},arrowhop={default_level}", default_level.min(Level::WARN)),
    };
    EnvFilter::try_new(&text).map_err(|source| RuntimeError::LogFilter {
        variable: FILTER_VARIABLE,
        text,
        source,
    })
}

fn make<W>(
    format: Format,
    filter: EnvFilter,
    is_coloured: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_coloured)
        .with_writer(writer);
    match format {
        Format::Text => Box::new(builder.finish()),
        Format::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use arrowhop_types::{Classify, ErrorClass};
    use tracing::{debug, info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What three events look like: ours at INFO and DEBUG, a library's at WARN and INFO.
    fn written(format: Format, filter: EnvFilter, is_coloured: bool) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = make(format, filter, is_coloured, move || writer.clone());
        subscriber::with_default(subscriber, || {
            info!(visit_id = 7, "visit ended");
            debug!("detail");
            warn!(target: "h2", "reset");
            info!(target: "h2", "frame");
        });
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn by_default_our_events_are_logged_from_the_level_and_libraries_warnings() {
        let text = written(Format::Text, filter(None, Level::INFO).unwrap(), false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].ends_with("INFO arrowhop_runtime::telemetry::tests: visit ended visit_id=7")
        );
        assert!(lines[1].ends_with("WARN h2: reset"));
        let quiet = written(Format::Text, filter(None, Level::ERROR).unwrap(), false);
        assert_eq!(quiet, "");
    }

    #[test]
    fn the_variable_overrides_and_an_empty_one_does_not_count() {
        let only_h2 = filter(Some("h2=info".into()), Level::INFO).unwrap();
        let text = written(Format::Text, only_h2, false);
        assert_eq!(text.matches("h2: ").count(), 2, "{text}");
        assert!(!text.contains("visit ended"), "{text}");
        let empty = filter(Some(OsString::new()), Level::INFO).unwrap();
        assert!(written(Format::Text, empty, false).contains("visit ended"));
    }

    #[test]
    fn json_is_an_object_per_line_with_the_fields_in_it() {
        let text = written(Format::Json, filter(None, Level::INFO).unwrap(), false);
        let line = text.lines().next().unwrap();
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert!(line.contains("\"message\":\"visit ended\",\"visit_id\":7"), "{line}");
        assert!(line.contains("\"level\":\"INFO\""), "{line}");
    }

    #[test]
    fn colour_is_used_only_where_asked_for() {
        let coloured = |is_coloured| {
            let filter = filter(None, Level::INFO).unwrap();
            written(Format::Text, filter, is_coloured).contains('\u{1b}')
        };
        assert_eq!((coloured(true), coloured(false)), (true, false));
    }

    #[test]
    fn a_filter_that_is_none_is_an_error_that_quotes_it() {
        let error = filter(Some("arrowhop=loud".into()), Level::INFO).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Invalid);
        let text = error.to_string();
        assert!(text.starts_with("ARROWHOP_LOG is \"arrowhop=loud\""), "{text}");
    }

    #[test]
    fn starting_twice_changes_nothing() {
        init(Format::Text, Level::ERROR).unwrap();
        init(Format::Json, Level::TRACE).unwrap();
    }
}
