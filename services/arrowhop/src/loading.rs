//! From an experiment's data to shards, with a line that says how far it is: prepared once, and taken from
//! the state folder as long as the sources are what they were.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use arrowhop_runtime::{Stop, StopSignal};
use arrowhop_source::{DataSpec, Glance, Prepared, Progress, SourceError, Workspace};
use arrowhop_types::Part;
use bytesize::ByteSize;
use console::Term;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::machine_memory;
use crate::kept::{Kept, Versions};
use crate::progress::{clock, say};
use crate::uploads::prepare_fetched;

/// How often the line changes on a terminal.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);
/// How often one is written elsewhere.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Where data is prepared, and how much of it may be where.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) kept: Kept,
    /// Bytes of rows in memory.
    pub(crate) memory: u64,
    /// Keeps data sets; else they are gone with this process.
    pub(crate) keeps: bool,
}

/// A data set, and what is to be kept of it.
pub(crate) struct Loaded {
    pub(crate) prepared: Prepared,
    /// Where it is kept, and as which versions of its sources; nothing where it is not, or is already.
    keeping: Option<(Kept, Versions)>,
}

impl Loaded {
    /// One that is kept already.
    pub(crate) fn kept(prepared: Prepared) -> Self {
        Self { prepared, keeping: None }
    }

    /// Keeps it, once all that goes with it is known to be right. Blocks.
    pub(crate) fn keep(self) -> anyhow::Result<Prepared> {
        match self.keeping {
            Some((kept, versions)) => kept.keep(self.prepared, versions),
            None => Ok(self.prepared),
        }
    }
}

/// A data set that is kept and whose sources are what they were, else one that is prepared now. An
/// interrupt ends it with [`SourceError::Stopped`].
pub(crate) async fn load(
    spec: &DataSpec,
    place: &Place,
    interrupts: &StopSignal,
) -> anyhow::Result<Loaded> {
    let workspace = Workspace::bounded(place.memory, place.kept.folder().root());
    let progress = workspace.progress().clone();
    let (spec, place) = (spec.clone(), place.clone());
    let mut working =
        tokio::task::spawn_blocking(move || prepare_or_find(&spec, &place, &workspace));
    let line = Line::new();
    loop {
        tokio::select! {
            done = &mut working => {
                line.finish();
                return done.context("prepare the data")?;
            }
            _ = interrupts.reached(Stop::AfterVisit), if !progress.is_stopped() => progress.stop(),
            () = tokio::time::sleep(line.interval()) => line.show(&progress),
        }
    }
}

fn prepare_or_find(
    spec: &DataSpec,
    place: &Place,
    workspace: &Workspace,
) -> anyhow::Result<Loaded> {
    // Sources that are not there are reported with all else that is wrong.
    let versions = Versions::of(spec).ok().filter(|_| place.keeps);
    if let Some(versions) = &versions
        && let Some((found, about)) = place.kept.find(spec, versions)?
    {
        let id = found.data_set.id.0.short();
        let ago = clock(since(about.prepared_at));
        say(&format!("data set {id}, prepared {ago} ago: its sources are what they were"));
        return Ok(Loaded::kept(found));
    }
    let began = std::time::Instant::now();
    let prepared = prepare_fetched(spec, workspace)?;
    for source in &prepared.sources {
        if !source.way.is_empty() {
            say(&format!("read {}", source.way));
        }
    }
    let data = &prepared.data_set;
    let rows = data.rows(Part::Train) + data.rows(Part::Validation);
    let took = began.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = rows as f64 / took.as_secs_f64().max(1e-9);
    say(&format!(
        "prepared {rows} rows in {} shards in {:.1} s, {rate:.0} rows a second",
        data.shards.len(),
        took.as_secs_f64(),
    ));
    let keeping = versions.map(|versions| (place.kept.clone(), versions));
    Ok(Loaded { prepared, keeping })
}

/// Where a command without settings of its own prepares data: a quarter of the machine's memory, and a
/// state folder beyond it.
pub(crate) fn workspace(state: &Path) -> anyhow::Result<Workspace> {
    Ok(Workspace::bounded(machine_memory()? / 4, Kept::of(state).folder().root()))
}

/// How long ago that was, in whole seconds since 1970.
pub(crate) fn since(at: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(at))
}

/// The line of progress: one that changes on a terminal, else one now and then.
struct Line {
    bar: Option<ProgressBar>,
}

impl Line {
    fn new() -> Self {
        let bar = Term::stderr().is_term().then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg}");
            ProgressBar::new_spinner().with_style(style.expect("the template is right"))
        });
        Self { bar }
    }

    fn interval(&self) -> Duration {
        if self.bar.is_some() { DRAW_INTERVAL } else { TELL_INTERVAL }
    }

    fn show(&self, progress: &Progress) {
        let text = text(&progress.glance());
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None => say(&text),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What is being done, how far it is, how fast it goes and when it will be done.
fn text(glance: &Glance) -> String {
    let of = glance.rows_total.map_or_else(String::new, |total| format!(" of {total}"));
    let mut text = format!("{}: {}{of} rows", glance.stage.name(), glance.rows);
    if glance.bytes > 0 {
        let seconds = glance.elapsed.as_secs_f64().max(1e-9);
        #[expect(clippy::cast_possible_truncation, reason = "for people")]
        #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "for people")]
        let rate = (glance.bytes as f64 / seconds) as u64;
        text += &format!(", {}, {}/s", ByteSize(glance.bytes), ByteSize(rate));
    }
    if let Some(left) = glance.left() {
        text += &format!(", {} left", clock(left));
    }
    text
}

/// Whether an error says that somebody interrupted the preparation.
pub(crate) fn is_stopped(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(SourceError::Stopped)))
}

#[cfg(test)]
mod tests {
    use arrowhop_source::Stage;

    use super::*;

    #[test]
    fn the_line_says_what_how_far_how_fast_and_how_long() {
        let glance = Glance {
            stage: Stage::Shuffling,
            rows: 1_000,
            rows_total: Some(4_000),
            bytes: 8 << 20,
            elapsed: Duration::from_secs(4),
        };
        assert_eq!(text(&glance), "shuffling: 1000 of 4000 rows, 8.0 MiB, 2.0 MiB/s, 0:12 left");
        let unknown = Glance { stage: Stage::Looking, rows_total: None, bytes: 0, ..glance };
        assert_eq!(text(&unknown), "looking through: 1000 rows");
    }
}
