//! Drives a run with plain values: a catalog in a temporary folder, and segments that are played by
//! the test.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arrowhop_catalog::{Catalog, Checkpoint};
use arrowhop_types::optimizer::{Optimizer, Semantics};
use arrowhop_types::{
    Architecture, CheckpointPolicy, ClassList, DataSet, DataSetId, Digest, Direction, Dtype,
    InputSpec, LOSS, Loss, Metric, MetricSums, ModelConfig, ModelId, ModelStatus, Objective, Part,
    RunId, RunSpec, RunStatus, Score, SegmentId, ShardId, ShardInfo, SlotId, Target, TargetColumn,
    Timestamp, TrainMetrics, Version, VisitKind, VisitOrder, VisitTiming,
};
use arrowhop_wire::{Command, Fact, StartVisit, VisitOutcome, VisitReport};

use super::{ActiveRun, Effect, Opening, open};

const SHARDS: u32 = 2;
const MODELS: u32 = 3;
const EPOCHS: u32 = 2;

/// A run and the world around it.
struct World {
    catalog: Catalog,
    run: ActiveRun,
    now: Timestamp,
    started: VecDeque<(SegmentId, StartVisit)>,
    keeps: Vec<Effect>,
    _folder: tempfile::TempDir,
}

fn spec() -> RunSpec {
    let adam = Optimizer::named("adam", Semantics::Current).unwrap();
    let config = ModelConfig::new("iris", adam, Loss::CATEGORICAL_CROSSENTROPY, 8);
    let shard = |shard| ShardInfo {
        shard: ShardId(shard),
        train_rows: 10,
        validation_rows: 5,
        digest: Digest([1; 32]),
    };
    RunSpec {
        name: "test".to_owned(),
        seed: 1,
        epochs: EPOCHS,
        architectures: vec![Architecture {
            name: "iris".to_owned(),
            keras_json: include_str!("../../../../examples/networks/iris_2x10.json").to_owned(),
        }],
        configs: vec![config; MODELS as usize],
        data: DataSet {
            id: DataSetId(Digest([2; 32])),
            name: "iris".to_owned(),
            inputs: vec![InputSpec::numbers(vec![4], Dtype::F32, 1.0)],
            targets: vec![TargetColumn::only(Target::Classes(ClassList::named(["a", "b", "c"])))],
            shards: (0..SHARDS).map(shard).collect(),
            test: None,
            rows_digest: Digest([3; 32]),
            preparation: "{}".to_owned(),
        },
        sources: Vec::new(),
        objective: Objective {
            part: Part::Train,
            metric: LOSS.to_owned(),
            direction: Direction::Minimize,
        },
        train_metrics: TrainMetrics::Evaluate,
        order: VisitOrder::Free,
        prescribed: Vec::new(),
        checkpoints: CheckpointPolicy::EveryEpoch,
        reset_optimizer_each_visit: false,
        bounds: Vec::new(),
        experiment: String::new(),
    }
}

fn opening(run: RunId) -> Opening {
    let segments = (0..SHARDS).map(SegmentId);
    Opening {
        run,
        placement: segments.clone().collect(),
        slots: segments.clone().map(|segment| SlotId { segment, index: 0 }).collect(),
        uris: segments.map(|segment| (segment, format!("grpc://{segment}"))).collect(),
        store_uri: "grpc://store".to_owned(),
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(folder.path()).unwrap();
        let run = catalog.submit(&spec(), Timestamp(0)).unwrap();
        let run = open(&mut catalog, &opening(run)).unwrap();
        let (now, started) = (Timestamp(0), VecDeque::new());
        let mut world = Self { catalog, run, now, started, keeps: vec![], _folder: folder };
        world.open_on_all();
        world
    }

    fn open_on_all(&mut self) {
        let begun = self.run.begin(&opening(self.run.id()).placement);
        assert_eq!(begun.len(), SHARDS as usize, "every segment is told of the run");
        for segment in 0..SHARDS {
            let opened = Fact::RunOpened { run: self.run.id(), problem: None };
            self.fact(SegmentId(segment), opened);
        }
    }

    fn fact(&mut self, segment: SegmentId, fact: Fact) {
        self.now = self.now + Duration::from_millis(10);
        let effects = self.run.fact(&mut self.catalog, segment, fact, self.now).unwrap();
        self.note(effects);
    }

    /// RUN-1: when a visit's command leaves, its intent is in the hop log.
    fn note(&mut self, effects: Vec<Effect>) {
        let intents = self.catalog.intents(self.run.id()).unwrap();
        for effect in effects {
            match effect {
                Effect::Tell(segment, Command::Start(order)) => {
                    let logged = intents.iter().find(|intent| intent.visit == order.visit);
                    let logged = logged.expect("RUN-1: the intent is logged first");
                    assert_eq!((logged.model, logged.shard), (order.model, order.shard));
                    assert_eq!(logged.attempt, order.attempt);
                    self.started.push_back((segment, order));
                }
                keep @ Effect::Keep { .. } => self.keeps.push(keep),
                Effect::Tell(..) | Effect::Wake(_) => {}
            }
        }
    }

    fn end(&mut self, segment: SegmentId, order: &StartVisit, outcome: VisitOutcome) {
        let (run, visit, attempt) = (order.run, order.visit, order.attempt);
        self.fact(segment, Fact::VisitEnded { run, visit, attempt, outcome });
    }

    /// Takes the states that are waiting for it into the model store.
    fn keep_all(&mut self) {
        for keep in std::mem::take(&mut self.keeps) {
            let Effect::Keep { model, version, digest, .. } = keep else { continue };
            let path = format!("models/{model}/{version}");
            let checkpoint = Checkpoint { version, digest, bytes: 1, path, kept_at: Timestamp(0) };
            let kept = self.run.kept(&mut self.catalog, model, version, Ok(checkpoint), self.now);
            let effects = kept.unwrap();
            self.note(effects);
        }
    }

    /// Does every visit well until nothing more is started.
    fn work(&mut self) {
        while let Some((segment, order)) = self.started.pop_front() {
            self.end(segment, &order, done(&order));
            self.keep_all();
        }
    }
}

/// A report whose digest names model and version.
fn done(order: &StartVisit) -> VisitOutcome {
    let trains = order.kind == VisitKind::Train;
    let version = if trains { order.version.next() } else { order.version };
    let mut digest = [0; 32];
    digest[0] = u8::try_from(order.model.0).unwrap();
    digest[1] = u8::try_from(version.0).unwrap();
    let accuracy = MetricSums { output: None, metric: Metric::Accuracy, sums: vec![5.0, 10.0] };
    let score = Score { rows: 10, loss_sum: f64::from(order.model.0), metrics: vec![accuracy] };
    VisitOutcome::Done(Box::new(VisitReport {
        computed_by: "avx2".into(),
        version,
        digest: Digest(digest),
        state_bytes: 100,
        timing: VisitTiming { train: Duration::from_millis(10), ..VisitTiming::default() },
        train: score.clone(),
        validation: score,
    }))
}

#[test]
fn run_1_a_run_goes_to_its_end_and_every_command_was_logged_first() {
    let mut world = World::new();
    world.work();
    assert_eq!(world.run.ended(), Some(RunStatus::Finished));
    let run = world.run.id();
    let visits = world.catalog.visits(run).unwrap();
    assert_eq!(visits.len(), (MODELS * SHARDS * EPOCHS * 2) as usize);
    for model in world.catalog.run(run).unwrap().models {
        assert_eq!(model.status, ModelStatus::Finished);
        assert_eq!(model.epochs.len(), EPOCHS as usize);
        let loss = f64::from(model.model.0) * f64::from(SHARDS) / (10.0 * f64::from(SHARDS));
        assert_eq!(model.epochs[0].train.loss, Some(loss));
        assert_eq!(model.epochs[0].train.value("accuracy"), Some(0.5));
        assert!(model.checkpoint.is_some());
    }
}

#[test]
fn run_2_a_doubled_or_late_report_changes_nothing() {
    let mut world = World::new();
    let (segment, order) = world.started.pop_front().unwrap();
    let late = StartVisit { attempt: order.attempt + 1, ..order.clone() };
    world.end(segment, &late, done(&late));
    let run = world.run.id();
    assert_eq!(world.catalog.visits(run).unwrap().len(), 0, "not the attempt that was ordered");
    world.end(segment, &order, done(&order));
    let started = world.started.len();
    world.end(segment, &order, done(&order));
    assert_eq!(world.catalog.visits(run).unwrap().len(), 1);
    assert_eq!(world.started.len(), started, "nothing follows from a doubled report");
    world.work();
    assert_eq!(world.run.ended(), Some(RunStatus::Finished));
}

#[test]
fn a_visit_is_tried_three_times_and_then_its_model_fails() {
    let mut world = World::new();
    let victim = ModelId(1);
    let mut attempts = Vec::new();
    while let Some((segment, order)) = world.started.pop_front() {
        if order.model == victim {
            attempts.push(order.attempt);
            world.end(segment, &order, VisitOutcome::Failed("no luck".to_owned()));
        } else {
            world.end(segment, &order, done(&order));
        }
        world.keep_all();
    }
    assert_eq!(attempts, [1, 2, 3]);
    assert_eq!(world.run.ended(), Some(RunStatus::Finished));
    let models = world.catalog.run(world.run.id()).unwrap().models;
    let reason = models[0].status.reason().unwrap();
    assert_eq!(reason, "no luck (tried 3 times)");
    assert!(models[1..].iter().all(|model| model.status == ModelStatus::Finished));
}

#[test]
fn a_stopped_run_saves_every_model_and_goes_on_in_the_same_order() {
    let mut world = World::new();
    for _ in 0..4 {
        let (segment, order) = world.started.pop_front().unwrap();
        world.end(segment, &order, done(&order));
    }
    let stop = world.run.stop(&mut world.catalog, RunStatus::Stopped, false, world.now).unwrap();
    world.note(stop);
    while let Some((segment, order)) = world.started.pop_front() {
        world.end(segment, &order, done(&order));
    }
    assert_eq!(world.run.ended(), None, "the states are not yet saved");
    world.keep_all();
    assert_eq!(world.run.ended(), Some(RunStatus::Stopped));
    world.run.close(&mut world.catalog).unwrap();

    let run = world.run.id();
    let before = world.catalog.visits(run).unwrap().len();
    assert!(before >= 4);
    world.run = open(&mut world.catalog, &opening(run)).unwrap();
    assert_eq!(world.catalog.visits(run).unwrap().len(), before, "nothing was taken back");
    world.open_on_all();
    assert!(world.started.iter().any(|(_, order)| {
        order.version.0 > 0 && order.from_uri.as_deref() == Some("grpc://store")
    }));
    world.work();
    assert_eq!(world.run.ended(), Some(RunStatus::Finished));
    let visits = world.catalog.visits(run).unwrap();
    assert_eq!(visits.len(), (MODELS * SHARDS * EPOCHS * 2) as usize);
}

#[test]
fn what_no_checkpoint_covers_is_made_again_in_the_same_order() {
    let mut world = World::new();
    let mut order_before: BTreeMap<ModelId, Vec<ShardId>> = BTreeMap::new();
    for _ in 0..5 {
        let (segment, order) = world.started.pop_front().unwrap();
        if order.kind == VisitKind::Train {
            order_before.entry(order.model).or_default().push(order.shard);
        }
        world.end(segment, &order, done(&order));
        world.keeps.clear();
    }
    // The process dies here; another opens the run from the catalog.
    let run = world.run.id();
    world.run = open(&mut world.catalog, &opening(run)).unwrap();
    assert_eq!(world.catalog.visits(run).unwrap().len(), 0, "no state was saved");
    world.started.clear();
    world.open_on_all();
    world.work();
    for (model, before) in order_before {
        let after = world.catalog.training_order(run, model).unwrap();
        assert_eq!(after[..before.len()], before, "model {model}");
    }
}

#[test]
fn a_version_0_that_was_given_comes_from_the_store_whenever_the_run_is_opened() {
    let mut world = World::new();
    let (run, given, version) = (world.run.id(), ModelId(2), Version(0));
    let digest = Digest([7; 32]);
    let path = "models/2/0".to_owned();
    let checkpoint = Checkpoint { version, digest, bytes: 1, path, kept_at: Timestamp(0) };
    world.catalog.checkpoint(run, given, &checkpoint).unwrap();
    for _ in 0..2 {
        world.run = open(&mut world.catalog, &opening(run)).unwrap();
        world.started.clear();
        world.open_on_all();
        let first = |model| {
            let order = world.started.iter().find(|(_, order)| order.model == model);
            let (_, order) = order.expect("it is started");
            (order.version, order.digest, order.from_uri.clone())
        };
        assert_eq!(first(given), (version, Some(digest), Some("grpc://store".to_owned())));
        assert_eq!(first(ModelId(1)), (version, None, None), "its weights are drawn");
        // No state of a later version is saved before the run is opened again.
        let (segment, order) = world.started.pop_front().unwrap();
        world.end(segment, &order, done(&order));
        world.keeps.clear();
    }
    world.work();
    assert_eq!(world.run.ended(), Some(RunStatus::Finished));
    assert_eq!(world.catalog.run(run).unwrap().models[1].initial, Some(digest));
}
