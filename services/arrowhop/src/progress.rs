//! Live progress on standard error: one line per model on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use arrowhop_types::{EpochRecord, LiveModel, LiveRun, ModelId, ModelStatus, RunSpec, VisitKind};
use console::{Term, style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// More models than this share one line.
const LINES_MAX: usize = 40;

/// Shows how a run goes.
pub(crate) struct Display {
    names: BTreeMap<ModelId, String>,
    shards: u64,
    epochs: u32,
    evaluates: bool,
    lines: Option<Lines>,
    told: BTreeMap<ModelId, (u32, &'static str)>,
}

struct Lines {
    all: ProgressBar,
    models: BTreeMap<ModelId, ProgressBar>,
}

impl Display {
    pub(crate) fn new(spec: &RunSpec) -> Self {
        let name = |(model, config): (ModelId, &arrowhop_types::ModelConfig)| {
            let optimizer = &config.optimizer;
            let name = format!("{} {optimizer} batch {}", config.architecture, config.batch_rows);
            (model, name)
        };
        let names: BTreeMap<_, _> = spec.models().map(name).collect();
        let terminal = Term::stderr();
        let fits = names.len() <= LINES_MAX && names.len() + 2 < usize::from(terminal.size().0);
        let mut display = Self {
            shards: spec.data.shards.len() as u64,
            epochs: spec.epochs,
            evaluates: spec.evaluates(),
            lines: None,
            told: BTreeMap::new(),
            names,
        };
        if terminal.is_term() {
            display.lines = Some(display.draw(fits));
        }
        display
    }

    fn draw(&self, each: bool) -> Lines {
        let bars = MultiProgress::new();
        let length = u64::from(self.epochs) * self.visits_per_epoch();
        let bar = |length: u64, prefix: String| {
            // Cut at the terminal's width.
            let style = ProgressStyle::with_template("{prefix:>4} {bar:12} {wide_msg}")
                .expect("the template is right");
            let bar = bars.add(ProgressBar::new(length).with_style(style.progress_chars("━╸ ")));
            bar.set_prefix(prefix);
            bar
        };
        let models = if each { self.names.keys().copied().collect() } else { Vec::new() };
        let models =
            models.into_iter().map(|model| (model, bar(length, model.to_string()))).collect();
        let all = bar(length * self.names.len() as u64, "all".to_owned());
        Lines { all, models }
    }

    fn visits_per_epoch(&self) -> u64 {
        self.shards * if self.evaluates { 2 } else { 1 }
    }

    /// Shows how the run stands.
    pub(crate) fn show(&mut self, live: &LiveRun) {
        match &self.lines {
            Some(lines) => self.redraw(lines, live),
            None => self.tell(live),
        }
    }

    /// Leaves the terminal as it should be for what follows.
    pub(crate) fn finish(&mut self) {
        if let Some(lines) = &self.lines {
            lines.models.values().for_each(ProgressBar::finish);
            lines.all.finish();
        }
    }

    /// A line of its own, above the progress.
    pub(crate) fn say(&self, text: &str) {
        match &self.lines {
            Some(lines) => lines.all.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn redraw(&self, lines: &Lines, live: &LiveRun) {
        let mut done = 0;
        for model in &live.models {
            let visits = self.visits_done(model);
            done += visits;
            if let Some(bar) = lines.models.get(&model.model) {
                bar.set_position(visits);
                bar.set_message(self.line(model, live.elapsed));
            }
        }
        lines.all.set_position(done);
        let left =
            live.remaining.map_or_else(String::new, |left| format!(", about {} left", clock(left)));
        lines.all.set_message(format!("{} {}{left}", live.status.name(), clock(live.elapsed)));
    }

    fn visits_done(&self, model: &LiveModel) -> u64 {
        let phase = match model.phase {
            VisitKind::Train => 0,
            VisitKind::Evaluate => self.shards,
        };
        let before = u64::from(model.epoch) * self.visits_per_epoch();
        before + phase + u64::from(model.shards_visited)
    }

    fn line(&self, model: &LiveModel, elapsed: Duration) -> String {
        let name = &self.names[&model.model];
        let metrics = model.last_epoch.as_ref().map(metrics).unwrap_or_default();
        let state = match &model.status {
            ModelStatus::Running => {
                let phase = match model.phase {
                    VisitKind::Train => "train",
                    VisitKind::Evaluate => "score",
                };
                let epoch = (model.epoch + 1).min(self.epochs);
                let visited = model.shards_visited;
                let left = self.left(model, elapsed);
                format!("epoch {epoch}/{} {phase} {visited}/{}{left}", self.epochs, self.shards)
            }
            ModelStatus::Finished => style("finished").green().for_stderr().to_string(),
            broken => style(broken.name()).red().for_stderr().to_string(),
        };
        // What may be cut comes last.
        format!("{state}  {metrics}  {name}")
    }

    /// When the model will be done, if it goes on as it has.
    fn left(&self, model: &LiveModel, elapsed: Duration) -> String {
        let all = u64::from(self.epochs) * self.visits_per_epoch();
        let done = self.visits_done(model);
        if done == 0 {
            return String::new();
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let left = elapsed.mul_f64(all.saturating_sub(done) as f64 / done as f64);
        format!(" {}", clock(left))
    }

    /// Without a terminal: a line when a model has ended an epoch, or ended altogether.
    fn tell(&mut self, live: &LiveRun) {
        for model in &live.models {
            let epoch = model.last_epoch.as_ref().map_or(0, |epoch| epoch.epoch + 1);
            let now = (epoch, model.status.name());
            let before = self.told.insert(model.model, now).unwrap_or((0, "running"));
            if before == now {
                continue;
            }
            let metrics = model.last_epoch.as_ref().map(metrics).unwrap_or_default();
            let reason = model.status.reason().map(|why| format!(": {why}")).unwrap_or_default();
            let left = live
                .remaining
                .map_or_else(String::new, |left| format!("; about {} left", clock(left)));
            say(&format!(
                "{} model {} ({}) epoch {}/{} {}{reason} {metrics}{left}",
                clock(live.elapsed),
                model.model,
                self.names[&model.model],
                now.0,
                self.epochs,
                now.1,
            ));
        }
    }
}

/// Everything that was measured, on training rows and then on validation rows.
fn metrics(epoch: &EpochRecord) -> String {
    let train = epoch.train.named().map(|(name, value)| format!("{name} {value:.4}"));
    let validation = epoch.validation.named();
    let validation = validation.map(|(name, value)| format!("val {name} {value:.4}"));
    train.chain(validation).collect::<Vec<_>>().join("  ")
}

/// Minutes and seconds, and hours where there are any.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{:02}", seconds % 60)
    } else {
        format!("{minutes}:{:02}", seconds % 60)
    }
}

/// Writes a line of progress.
#[expect(clippy::print_stderr, reason = "progress goes to standard error")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reads_like_one() {
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(clock(Duration::from_secs(3_725)), "1:02:05");
    }
}
