//! `arrowhop replay`: one model's visits made again from its run's record alone, in one process and
//! in the order of the hop log, and compared with what the run recorded: digests bit for bit after
//! training, scores after evaluation.

use std::ops::ControlFlow;

use anyhow::{Context, bail};
use arrowhop_catalog::Catalog;
use arrowhop_flight::{FlightError, FlightPeer, ModelTicket, connect};
use arrowhop_segment::rows;
use arrowhop_source::{Prepared, PreparedShard};
use arrowhop_supervisor::Store;
use arrowhop_train::{Task, Visit, evaluate, initial_state, train_visit};
use arrowhop_types::{
    DataSet, Digest, ModelId, ModelRecord, RunRecord, Score, ShardId, TrainMetrics, Version,
    VisitKind, VisitRecord,
};
use serde_json::{Value, json};

use crate::cli::{Output, Replay};
use crate::client::Client;
use crate::exit::Exit;
use crate::experiment::Experiment;
use crate::initial::{CONNECT_TIMEOUT, STATE_BYTES_MAX, STATE_TIMEOUT};
use crate::loading::workspace;
use crate::report::{csv_field, print};
use crate::trained::{read_state, task_of};
use crate::uploads::prepare_fetched;

/// What the record says and what came out now, in words, and whether they are the same bits.
struct Compared {
    is_same: bool,
    expected: String,
    found: String,
}

/// A visit that was made again.
struct Replayed<'a> {
    visit: &'a VisitRecord,
    outcome: Compared,
}

pub(super) async fn replay(options: Replay) -> anyhow::Result<Exit> {
    let (record, visits) = match &options.cluster {
        Some(uri) => Client::connect(uri).await?.history(options.run).await?,
        None => {
            let catalog = Catalog::open_read_only(&options.state.folder())?;
            (catalog.run(options.run)?, catalog.visits(options.run)?)
        }
    };
    let task = task_of(&record, options.model)?;
    let visits: Vec<_> = visits.iter().filter(|visit| visit.model == options.model).collect();
    if visits.is_empty() {
        bail!("model {} of run {} has made no visit yet", options.model, options.run);
    }
    let prepared = load(&record, &options)?;
    let shards = compare_shards(&record.spec.data, &prepared.data_set);
    let mut report = Report::new(&options, &record, shards);
    report.print_data()?;
    if let Some((shard, difference)) = report.different_shard() {
        report.print_end()?;
        let Compared { expected, found, .. } = difference;
        bail!("the data differs first in shard {shard}: expected {expected}, found {found}");
    }
    let mut state = match record.models.iter().find(|entry| entry.model == options.model) {
        Some(ModelRecord { initial: Some(digest), .. }) => given_state(&options, *digest).await?,
        _ => initial_state(&task)?,
    };
    for visit in visits {
        let outcome = repeat(&task, &mut state, visit, &record, &prepared)
            .with_context(|| format!("repeat visit {}", visit.visit))?;
        report.add(Replayed { visit, outcome })?;
    }
    report.print_end()?;
    let Some(Replayed { visit, outcome }) = report.first_difference() else {
        return Ok(Exit::Done);
    };
    bail!(
        "visit {} (epoch {}, shard {}, {}) differs first: expected {}, found {}; it was computed by \
         {:?}, and now by {:?}, which may be why: `--kernels` chooses",
        visit.visit,
        visit.epoch,
        visit.shard,
        verb(visit.kind),
        outcome.expected,
        outcome.found,
        visit.computed_by,
        arrowhop_network::isa(task.config().precision),
    )
}

/// Version 0 of a model whose first weights were given, from the model store.
async fn given_state(options: &Replay, digest: Digest) -> anyhow::Result<Vec<u8>> {
    let ticket = ModelTicket { run: options.run, model: options.model, version: Version(0) };
    let Some(uri) = &options.cluster else {
        return read_state(&options.state.folder().join(Store::path(ticket)), digest);
    };
    let store = FlightPeer::new(connect(uri, CONNECT_TIMEOUT).await?);
    let state = store.state(ticket, STATE_BYTES_MAX, STATE_TIMEOUT).await?;
    if state.digest != digest {
        return Err(FlightError::WrongDigest { expected: digest, found: state.digest }.into());
    }
    Ok(state.bytes.into())
}

/// The run's data, prepared again from its source.
fn load(record: &RunRecord, options: &Replay) -> anyhow::Result<Prepared> {
    let (text, bounds) = (&record.spec.experiment, record.spec.bounds.clone());
    let experiment = Experiment::recorded(text, options.data.as_deref(), bounds)?;
    let workspace = workspace(&options.state.folder())?;
    prepare_fetched(&experiment.data, &workspace).context("prepare the data")
}

/// Each shard's digest, as recorded and as it is now. A shard that one side lacks is `none` there.
fn compare_shards(recorded: &DataSet, now: &DataSet) -> Vec<(ShardId, Compared)> {
    let digest = |data: &DataSet, shard: usize| {
        data.shards.get(shard).map_or_else(|| "none".to_owned(), |info| info.digest.to_string())
    };
    let count = recorded.shards.len().max(now.shards.len());
    let shards = (0..count).zip((0..).map(ShardId));
    let compared = |(i, shard)| (shard, Compared::digests(digest(recorded, i), digest(now, i)));
    shards.map(compared).collect()
}

/// Makes a visit again from `state`, which training replaces.
fn repeat(
    task: &Task,
    state: &mut Vec<u8>,
    visit: &VisitRecord,
    record: &RunRecord,
    prepared: &Prepared,
) -> anyhow::Result<Compared> {
    let shard = &prepared.shards[visit.shard.0 as usize];
    let mut go_on = |_: u64, _: &Score| ControlFlow::Continue(());
    if visit.kind == VisitKind::Evaluate {
        let scores = score(task, state, shard, record.spec.train_metrics)?;
        let expected = [visit.train.clone(), visit.validation.clone()];
        return Ok(Compared {
            is_same: expected == scores,
            expected: shown(&expected),
            found: shown(&scores),
        });
    }
    let rows = rows(task, &shard.train)?;
    let at = Visit { epoch: visit.epoch, shard: visit.shard };
    let trained = train_visit(task, state, at, &rows, &mut go_on)?;
    *state = trained.state;
    Ok(Compared::digests(visit.digest.to_string(), trained.digest.to_string()))
}

/// Scores on the shard's training rows, where the run evaluates them, and on its validation rows.
fn score(
    task: &Task,
    state: &[u8],
    shard: &PreparedShard,
    metrics: TrainMetrics,
) -> anyhow::Result<[Score; 2]> {
    let of = |batches: &[arrow::array::RecordBatch], wanted: bool| {
        if !wanted || batches.is_empty() {
            return Ok(Score::default());
        }
        let mut go_on = |_: u64, _: &Score| ControlFlow::Continue(());
        let rows = rows(task, batches)?;
        Ok::<_, anyhow::Error>(evaluate(task, state, &rows, &mut go_on)?)
    };
    let train = of(&shard.train, metrics == TrainMetrics::Evaluate)?;
    Ok([train, of(&shard.validation, true)?])
}

/// What was measured on training and validation rows, with all its digits.
fn shown([train, validation]: &[Score; 2]) -> String {
    let text = |score: &Score| {
        let measures = score.measures();
        let named = measures.named().map(|(name, value)| format!("{name} {value}"));
        named.collect::<Vec<_>>().join(", ")
    };
    format!("training {}; validation {}", text(train), text(validation))
}

fn verb(kind: VisitKind) -> &'static str {
    match kind {
        VisitKind::Train => "train",
        VisitKind::Evaluate => "evaluate",
    }
}

/// What was compared so far; prints line by line, or one object in the end.
struct Report<'a> {
    output: Output,
    model: ModelId,
    record: &'a RunRecord,
    shards: Vec<(ShardId, Compared)>,
    visits: Vec<Replayed<'a>>,
}

impl<'a> Report<'a> {
    fn new(options: &Replay, record: &'a RunRecord, shards: Vec<(ShardId, Compared)>) -> Self {
        Self { output: options.output, model: options.model, record, shards, visits: Vec::new() }
    }

    fn different_shard(&self) -> Option<&(ShardId, Compared)> {
        self.shards.iter().find(|(_, compared)| !compared.is_same)
    }

    fn first_difference(&self) -> Option<&Replayed<'a>> {
        self.visits.iter().find(|replayed| !replayed.outcome.is_same)
    }

    fn print_data(&self) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Table => {
                let line = |(shard, compared): &(ShardId, Compared)| {
                    format!("shard {shard}: {}\n", compared.word())
                };
                self.shards.iter().map(line).collect()
            }
            Output::Csv => "visit,epoch,kind,shard,version,same,expected,found\n".to_owned(),
            Output::Json => return Ok(()),
        };
        Ok(print(&text)?)
    }

    fn add(&mut self, replayed: Replayed<'a>) -> anyhow::Result<()> {
        let Replayed { visit, outcome } = &replayed;
        let (kind, same) = (verb(visit.kind), outcome.word());
        let (id, epoch, shard, version) = (visit.visit, visit.epoch, visit.shard, visit.version);
        let Compared { is_same, expected, found } = outcome;
        match self.output {
            Output::Table => print(&format!(
                "visit {id}: epoch {epoch}, shard {shard}, {kind}, version {version}: {same}\n"
            ))?,
            Output::Csv => print(&format!(
                "{id},{epoch},{kind},{shard},{version},{},{},{}\n",
                is_same,
                csv_field(expected),
                csv_field(found)
            ))?,
            Output::Json => {}
        }
        self.visits.push(replayed);
        Ok(())
    }

    fn print_end(&self) -> anyhow::Result<()> {
        let different = self.visits.iter().filter(|visit| !visit.outcome.is_same).count();
        let same = self.visits.len() - different;
        let (run, model) = (self.record.run, self.model);
        let text = match self.output {
            Output::Table => {
                format!("model {model} of run {run}: {same} visits same, {different} different\n")
            }
            Output::Csv => return Ok(()),
            Output::Json => format!("{:#}\n", self.json(same, different)),
        };
        Ok(print(&text)?)
    }

    fn json(&self, same: usize, different: usize) -> Value {
        let shards = self.shards.iter().map(|(shard, compared)| {
            let mut object = compared.json();
            object["shard"] = json!(shard.0);
            object
        });
        let visits = self.visits.iter().map(Replayed::json);
        json!({
            "schema_version": 1,
            "run": self.record.run.0,
            "model": self.model.0,
            "shards": shards.collect::<Vec<_>>(),
            "visits": visits.collect::<Vec<_>>(),
            "same": same,
            "different": different,
            "first_difference": self.first_difference().map(Replayed::json),
        })
    }
}

impl Compared {
    fn digests(expected: String, found: String) -> Self {
        Self { is_same: expected == found, expected, found }
    }

    fn word(&self) -> &'static str {
        if self.is_same { "same" } else { "different" }
    }

    fn json(&self) -> Value {
        json!({ "same": self.is_same, "expected": self.expected, "found": self.found })
    }
}

impl Replayed<'_> {
    fn json(&self) -> Value {
        let mut object = self.outcome.json();
        object["visit"] = json!(self.visit.visit.0);
        object["epoch"] = json!(self.visit.epoch);
        object["kind"] = json!(verb(self.visit.kind));
        object["shard"] = json!(self.visit.shard.0);
        object["version"] = json!(self.visit.version.0);
        object
    }
}
