//! Opens a run from the catalog alone: a fresh one, or one that stopped or broke off.
//!
//! A model goes on from its latest state in the model store. Visits committed after that are rolled
//! back in the hop log and prescribed again in the same order, so that the weights become what they
//! would have been.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrowhop_catalog::{Catalog, ModelProgress};
use arrowhop_network::NetworkSpec;
use arrowhop_schedule::{Entrant, Estimates, Event, Layout, Options, Progress, Schedule};
use arrowhop_types::{
    ModelId, ModelRecord, ModelStatus, Problems, RunId, RunSpec, SegmentId, ShardId, SlotId,
    Version, VisitRecord,
};

use super::facts::busy;
use super::tracked::Tracked;
use super::{ActiveRun, Measured};
use crate::SupervisorError;

/// Multiply-accumulates per second of a slot, as a first guess; only ratios between models matter.
const MACS_PER_SECOND: f64 = 1e10;

/// A run to be opened, and where.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub(crate) run: RunId,
    /// `placement[i]` holds shard i.
    pub(crate) placement: Vec<SegmentId>,
    /// All slots of those segments.
    pub(crate) slots: Vec<SlotId>,
    /// Where those segments are reached.
    pub(crate) uris: BTreeMap<SegmentId, String>,
    /// Where the model store is reached.
    pub(crate) store_uri: String,
}

/// Opens a run.
pub(crate) fn open(catalog: &mut Catalog, opening: &Opening) -> Result<ActiveRun, SupervisorError> {
    let run = opening.run;
    catalog.clear_intents(run)?;
    let record = catalog.run(run)?;
    let orders = roll_back(catalog, &record.models, &record.spec, run)?;
    let visits = catalog.visits(run)?;
    let spec = Arc::new(record.spec);
    let layout = Layout::new(opening.slots.clone(), opening.placement.clone())?;
    if opening.placement.len() != spec.data.shards.len() {
        let text = format!("{} shards are placed", opening.placement.len());
        return Err(Problems::one(format!("{} shards", spec.data.shards.len()), text).into());
    }
    let options = Options {
        epochs: spec.epochs,
        evaluates: spec.evaluates(),
        prefetch: true,
        first_visit: catalog.next_visit(run)?,
    };
    let (mut estimates, mut measured) = (Estimates::learned(&layout), Measured::default());
    for visit in &visits {
        let took = busy(&visit.timing);
        estimates.record(visit.model, visit.shard, visit.kind, took);
        measured.add(visit.model, visit.kind, took);
    }
    let models = follow(&record.models, &visits, catalog, run)?;
    let progress = catalog.progress(run)?;
    let entrants = enter(&spec, &layout, &options, &models, &progress, orders)?;
    for model in models.values().filter(|t| t.status == ModelStatus::Running) {
        catalog.set_model_status(run, model.model, &ModelStatus::Running)?;
    }
    catalog.set_slots(run, &opening.slots)?;
    Ok(ActiveRun {
        run,
        schedule: Schedule::new(layout, options, estimates),
        spec,
        entrants,
        models,
        flying: BTreeMap::new(),
        uris: opening.uris.clone(),
        store_uri: opening.store_uri.clone(),
        opening: opening.uris.keys().copied().collect(),
        drained: false,
        stopping: None,
        aborted: false,
        slots: opening.slots.len(),
        measured,
    })
}

/// Takes each unfinished model back to its latest checkpoint. Returns the training visits that it
/// must now make in a given order: those taken back, or the rest of the order it was given.
fn roll_back(
    catalog: &mut Catalog,
    models: &[ModelRecord],
    spec: &RunSpec,
    run: RunId,
) -> Result<BTreeMap<ModelId, Vec<ShardId>>, SupervisorError> {
    let mut orders = BTreeMap::new();
    for record in models.iter().filter(|record| goes_on(record)) {
        let version = record.checkpoint.map_or(Version(0), |(version, _)| version);
        let from = usize::try_from(version.0).expect("a version counts visits");
        let prescribed = spec.prescribed.get((record.model.0 as usize).saturating_sub(1));
        let order = match prescribed.filter(|order| !order.is_empty()) {
            Some(order) => order.clone(),
            None => catalog.training_order(run, record.model)?,
        };
        orders.insert(record.model, order.get(from..).unwrap_or_default().to_vec());
        catalog.roll_back(run, record.model, version)?;
    }
    Ok(orders)
}

fn goes_on(record: &ModelRecord) -> bool {
    matches!(record.status, ModelStatus::Running | ModelStatus::Stopped)
}

/// The models as the hop log tells.
fn follow(
    records: &[ModelRecord],
    visits: &[VisitRecord],
    catalog: &Catalog,
    run: RunId,
) -> Result<BTreeMap<ModelId, Tracked>, SupervisorError> {
    let mut models = BTreeMap::new();
    for record in records {
        let mut tracked = Tracked::new(record.model);
        for visit in visits.iter().filter(|visit| visit.model == record.model) {
            tracked.commit(visit);
        }
        tracked.home = None;
        tracked.status = if goes_on(record) { ModelStatus::Running } else { record.status.clone() };
        if let Some(kept) = catalog.latest_checkpoint(run, record.model)? {
            tracked.kept = kept.version;
            if kept.version == Version(0) {
                tracked.digest.get_or_insert(kept.digest);
            }
        }
        if let Some(epoch) = record.epochs.iter().rfind(|epoch| epoch.epoch <= tracked.epoch) {
            tracked.last_epoch = Some(epoch.clone());
            if epoch.epoch == tracked.epoch {
                tracked.epoch += 1;
                tracked.trained.clear();
                tracked.evaluated.clear();
            }
        }
        models.insert(record.model, tracked);
    }
    Ok(models)
}

fn enter(
    spec: &RunSpec,
    layout: &Layout,
    options: &Options,
    models: &BTreeMap<ModelId, Tracked>,
    progress: &[ModelProgress],
    mut orders: BTreeMap<ModelId, Vec<ShardId>>,
) -> Result<Vec<Event>, SupervisorError> {
    let mut problems = Problems::new();
    let mut entrants = Vec::new();
    let costs = costs(spec)?;
    for (model, config) in spec.models() {
        if models.get(&model).is_none_or(|tracked| tracked.status != ModelStatus::Running) {
            continue;
        }
        let start = progress.iter().find(|progress| progress.model == model);
        let start = start.map_or_else(Progress::fresh, |progress| Progress {
            epoch: progress.epoch,
            kind: progress.phase,
            done: progress.done.clone(),
            version: progress.version,
            home: None,
        });
        let order = orders.remove(&model).unwrap_or_default();
        let cost = costs[config.architecture.as_str()] * f64::from(config.passes);
        let estimate = Duration::from_secs_f64(cost.min(1e9));
        match Entrant::new(layout, options, model, start, order, estimate) {
            Ok(entrant) => entrants.push(Event::ModelAdded(entrant)),
            Err(found) => problems.extend("", &found),
        }
    }
    Ok(problems.or(entrants)?)
}

/// Guessed seconds of one pass over a shard, by architecture: forward and twice that backward.
#[expect(clippy::cast_precision_loss, reason = "a guess")]
fn costs(spec: &RunSpec) -> Result<BTreeMap<&str, f64>, SupervisorError> {
    let shards = spec.data.shards.len().max(1);
    let rows = spec.data.rows(arrowhop_types::Part::Train) as f64 / shards as f64;
    let cost = |architecture: &'_ arrowhop_types::Architecture| {
        let network = NetworkSpec::parse(&architecture.keras_json)?;
        Ok::<_, Problems>(3.0 * network.macs() as f64 * rows / MACS_PER_SECOND)
    };
    let mut costs = BTreeMap::new();
    for architecture in &spec.architectures {
        costs.insert(architecture.name.as_str(), cost(architecture)?);
    }
    Ok(costs)
}
