//! Runs and visits for tests: one small run, and any; a ledger to write visits into.

use std::time::Duration;

use arrowhop_types::optimizer::{Domain, Method, Optimizer, Parameter, ParameterValue, Semantics};
use arrowhop_types::{
    Architecture, CheckpointPolicy, ClassList, Crossentropy, DataSet, DataSetId, Digest, Direction,
    Dtype, Encoding, InputSpec, LOSS, Loss, Metric, MetricSums, ModelConfig, ModelId, Objective,
    OutputConfig, Part, Precision, RunId, RunSpec, Score, SegmentId, ShardId, ShardInfo, SlotId,
    SourceRecord, Target, TargetColumn, TestRows, Timestamp, TrainMetrics, Version, VisitId,
    VisitKind, VisitOrder, VisitRecord, VisitTiming,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::words::Word;
use crate::{Catalog, CommitOutcome, IntendedVisit};

/// A run of so many models over so many shards for two epochs, with evaluation.
pub(crate) fn spec(models: usize, shards: u32) -> RunSpec {
    let shard = |number| ShardInfo {
        shard: ShardId(number),
        train_rows: 100 + u64::from(number),
        validation_rows: 10,
        digest: Digest([u8::try_from(number).unwrap(); 32]),
    };
    RunSpec {
        name: "petals".into(),
        seed: 7,
        epochs: 2,
        architectures: vec![Architecture { name: "dense".into(), keras_json: "{}".into() }],
        configs: vec![
            ModelConfig::new(
                "dense",
                Optimizer::named("adam", Semantics::Current).unwrap(),
                Loss::CATEGORICAL_CROSSENTROPY,
                32,
            );
            models
        ],
        data: DataSet {
            id: DataSetId(Digest([u8::try_from(shards).unwrap(); 32])),
            name: "flowers".into(),
            inputs: vec![InputSpec::numbers(vec![4], Dtype::F32, 1.0)],
            targets: vec![TargetColumn::only(Target::Classes(ClassList::named(["rose", "tulip"])))],
            shards: (0..shards).map(shard).collect(),
            test: None,
            rows_digest: Digest([9; 32]),
            preparation: "{\"version\":1}".into(),
        },
        sources: vec![SourceRecord {
            name: "flowers.parquet".into(),
            rows: 150,
            version: "2000 bytes".into(),
            way: String::new(),
            digest: Some(Digest([5; 32])),
        }],
        objective: Objective {
            part: Part::Validation,
            metric: LOSS.into(),
            direction: Direction::Minimize,
        },
        train_metrics: TrainMetrics::Evaluate,
        order: VisitOrder::Free,
        prescribed: Vec::new(),
        checkpoints: CheckpointPolicy::EveryVisit,
        reset_optimizer_each_visit: false,
        bounds: Vec::new(),
        experiment: "name = \"petals\"\n".into(),
    }
}

/// Any run that can be recorded.
pub(crate) fn any_spec() -> impl Strategy<Value = RunSpec> {
    let heads = (text(), any::<u64>(), any::<u32>(), btree_set(text(), 1..4));
    (heads, any_data(), 0_usize..5).prop_flat_map(|((name, seed, epochs, names), data, models)| {
        let shards = u32::try_from(data.shards.len()).unwrap();
        let names: Vec<_> = names.into_iter().collect();
        let bodies = (
            vec(text(), names.len()),
            vec(any_config(names.clone()), models),
            prop_oneof![Just(Vec::new()), vec(vec((0..shards).prop_map(ShardId), 0..6), models)],
        );
        let choices = (
            (word::<Part>(), text(), word::<Direction>(), word::<TrainMetrics>()),
            prop_oneof![
                Just(VisitOrder::Free),
                Just(VisitOrder::Planned),
                (1..=i64::MAX as u64).prop_map(|run| VisitOrder::As(RunId(run)))
            ],
            (word::<CheckpointPolicy>(), any::<bool>(), vec(text(), 0..3), text()),
        );
        (bodies, choices).prop_map(move |((json, configs, prescribed), choices)| {
            let ((part, metric, direction, train_metrics), order, tail) = choices;
            let (checkpoints, reset_optimizer_each_visit, bounds, experiment) = tail;
            RunSpec {
                name: name.clone(),
                seed,
                epochs,
                architectures: names
                    .iter()
                    .cloned()
                    .zip(json)
                    .map(|(name, keras_json)| Architecture { name, keras_json })
                    .collect(),
                configs,
                data: data.clone(),
                sources: Vec::new(),
                objective: Objective { part, metric, direction },
                train_metrics,
                order,
                prescribed,
                checkpoints,
                reset_optimizer_each_visit,
                bounds,
                experiment,
            }
        })
    })
}

fn any_data() -> impl Strategy<Value = DataSet> {
    let encoding = prop_oneof![
        any::<f32>().prop_map(|normalize| Encoding::Numbers { normalize }),
        any::<u32>().prop_map(|vocabulary| Encoding::Tokens { vocabulary }),
        any::<u32>().prop_map(|width| Encoding::OneHot { width }),
    ];
    let input = (text(), vec(any::<usize>(), 0..4), word::<Dtype>(), encoding)
        .prop_map(|(name, shape, dtype, encoding)| InputSpec { name, shape, dtype, encoding });
    let target = prop_oneof![
        vec(option::of(text()), 0..4).prop_map(|names| Target::Classes(ClassList::new(names))),
        (0_usize..1 << 40).prop_map(Target::Values)
    ];
    let target = (text(), target).prop_map(|(name, target)| TargetColumn { name, target });
    let columns = (vec(input, 0..3), vec(target, 0..3));
    let shard = (rows(), rows(), any::<[u8; 32]>());
    let test = option::of((rows(), any::<[u8; 32]>()));
    let test =
        test.prop_map(|test| test.map(|(rows, digest)| TestRows { rows, digest: Digest(digest) }));
    let digests = (any::<[u8; 32]>(), any::<[u8; 32]>(), test);
    (digests, text(), text(), columns, vec(shard, 1..5)).prop_map(
        |((id, rows, test), name, preparation, (inputs, targets), shards)| DataSet {
            id: DataSetId(Digest(id)),
            name,
            inputs,
            targets,
            shards: (0..)
                .zip(shards)
                .map(|(number, (train_rows, validation_rows, digest))| ShardInfo {
                    shard: ShardId(number),
                    train_rows,
                    validation_rows,
                    digest: Digest(digest),
                })
                .collect(),
            test,
            rows_digest: Digest(rows),
            preparation,
        },
    )
}

fn any_config(architectures: Vec<String>) -> impl Strategy<Value = ModelConfig> {
    let architecture = proptest::sample::select(architectures);
    let weights = vec(any::<f64>(), 0..4);
    let precision = proptest::sample::select(&Precision::ALL);
    let fit = (weights, any::<u32>(), any::<u32>(), precision);
    (architecture, any_optimizer(), vec(any_output(), 0..3), fit).prop_map(
        |(architecture, optimizer, outputs, (class_weights, batch_rows, passes, precision))| {
            ModelConfig {
                architecture,
                optimizer,
                outputs,
                class_weights,
                batch_rows,
                passes,
                precision,
            }
        },
    )
}

fn any_output() -> impl Strategy<Value = OutputConfig> {
    let loss = prop_oneof![
        Just(Loss::CATEGORICAL_CROSSENTROPY),
        (0.0..=1.0).prop_map(|label_smoothing| {
            Loss::BinaryCrossentropy(Crossentropy { from_logits: true, label_smoothing })
        }),
        (1e-9..1e9).prop_map(|delta| Loss::Huber { delta }),
    ];
    let metric = prop_oneof![
        Just(Metric::Accuracy),
        (1..=u32::MAX >> 3).prop_map(|k| Metric::TopKCategoricalAccuracy { k }),
        (0.0..=1.0).prop_map(|threshold| Metric::Precision { threshold }),
    ];
    (loss, any::<f64>(), vec(metric, 0..4)).prop_map(|(loss, loss_weight, metrics)| OutputConfig {
        loss,
        loss_weight,
        metrics,
    })
}

/// Any optimizer, with any of its parameters set to anything that they may be.
fn any_optimizer() -> impl Strategy<Value = Optimizer> {
    const SCHEDULES: [&str; 4] =
        ["", "exponential_decay", "piecewise_constant_decay", "cosine_decay"];
    let semantics = prop_oneof![Just(Semantics::Legacy), Just(Semantics::Current)];
    let plain = semantics.prop_flat_map(|semantics| {
        let schedule = proptest::sample::select(&SCHEDULES[..]);
        (proptest::sample::select(Method::all(semantics)), schedule).prop_map(
            move |(method, schedule)| {
                let plain = Optimizer::new(method, semantics);
                let is_legacy_nadam =
                    matches!(method, Method::Nadam(_)) && semantics == Semantics::Legacy;
                if is_legacy_nadam || schedule.is_empty() {
                    plain
                } else {
                    plain.scheduled(schedule).unwrap()
                }
            },
        )
    });
    plain.prop_flat_map(|plain| {
        let values: Vec<_> = plain.parameters().into_iter().map(any_value).collect();
        values.prop_map(move |values| {
            let values: Vec<_> = values.into_iter().flatten().collect();
            plain.with(&values).unwrap_or_else(|problems| panic!("{plain}: {problems}"))
        })
    })
}

/// The parameter's name with a value that it may have, or none where it may be left out.
fn any_value(parameter: Parameter) -> BoxedStrategy<Option<(&'static str, ParameterValue)>> {
    let Parameter { name, domain, value } = parameter;
    // Two that go with no other one.
    let is_left_out = ["clipvalue", "global_clipnorm"].contains(&name)
        || name.starts_with("ema_")
        || name == "learning_rate.warmup_steps";
    if is_left_out {
        return Just(None).boxed();
    }
    let number = match domain {
        Domain::Flag => any::<bool>().prop_map(ParameterValue::Flag).boxed(),
        Domain::Steps => Just(ParameterValue::Numbers(vec![2.0, 1e9])).boxed(),
        Domain::Rates => vec(0.0..1e9, 3).prop_map(ParameterValue::Numbers).boxed(),
        _ => {
            let may = move |number: &f64| domain.has(&ParameterValue::Number(*number));
            let near = prop_oneof![0.0..1.0, -1.0..=0.0, Just(1.0), 1.0..2.0];
            let number = near.prop_filter("out of its domain", may);
            number.prop_map(ParameterValue::Number).boxed()
        }
    };
    let must_be_given = value.is_none() && !name.ends_with("norm") && !name.ends_with("target");
    let given = number.prop_map(move |value| Some((name, value)));
    if must_be_given { given.boxed() } else { prop_oneof![Just(None), given].boxed() }
}

/// Any text, quotes, zeros and line breaks included.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

fn rows() -> impl Strategy<Value = u64> {
    0..=i64::MAX as u64
}

fn word<W: Word + std::fmt::Debug>() -> impl Strategy<Value = W> {
    proptest::sample::select(W::ALL)
}

/// A catalog of its own with one run.
pub(crate) struct Ledger {
    /// The state directory, removed at the end.
    pub(crate) state: tempfile::TempDir,
    /// The catalog.
    pub(crate) catalog: Catalog,
    /// The run.
    pub(crate) run: RunId,
}

impl Ledger {
    /// A run of so many models over so many shards.
    pub(crate) fn new(models: usize, shards: u32) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(state.path()).unwrap();
        let run = catalog.submit(&spec(models, shards), Timestamp(0)).unwrap();
        Self { state, catalog, run }
    }

    /// Intends a visit and commits it.
    pub(crate) fn visit(&mut self, visit: &IntendedVisit) -> VisitRecord {
        self.catalog.intend(self.run, visit).unwrap();
        let record = record(visit, Timestamp(visit.visit.0));
        let outcome = self.catalog.commit(self.run, &record, visit.attempt).unwrap();
        assert_eq!(outcome, CommitOutcome::Committed);
        record
    }
}

/// A training visit: its number, model, epoch, shard, and the version it starts from.
pub(crate) fn train(visit: u64, model: u32, epoch: u32, shard: u32, from: u64) -> IntendedVisit {
    IntendedVisit {
        visit: VisitId(visit),
        model: ModelId(model),
        epoch,
        kind: VisitKind::Train,
        shard: ShardId(shard),
        slot: SlotId { segment: SegmentId(shard), index: 0 },
        from_version: Version(from),
        attempt: 1,
    }
}

/// An evaluation visit, likewise.
pub(crate) fn evaluate(visit: u64, model: u32, epoch: u32, shard: u32, from: u64) -> IntendedVisit {
    IntendedVisit { kind: VisitKind::Evaluate, ..train(visit, model, epoch, shard, from) }
}

/// What a segment reports of an intended visit.
pub(crate) fn record(visit: &IntendedVisit, started_at: Timestamp) -> VisitRecord {
    let version = match visit.kind {
        VisitKind::Train => visit.from_version.next(),
        VisitKind::Evaluate => visit.from_version,
    };
    VisitRecord {
        visit: visit.visit,
        model: visit.model,
        epoch: visit.epoch,
        shard: visit.shard,
        slot: visit.slot,
        kind: visit.kind,
        version,
        digest: digest(visit.model, version),
        started_at,
        ended_at: started_at + Duration::from_micros(50),
        computed_by: "avx2".into(),
        timing: VisitTiming {
            queue: Duration::from_micros(1),
            fetch: Duration::from_micros(2),
            stall: Duration::from_micros(3),
            train: Duration::from_micros(4),
            evaluate: Duration::from_micros(5),
            state: Duration::from_micros(6),
            cpu: Duration::from_micros(7),
            hop_bytes: 8,
        },
        train: Score {
            rows: 100,
            loss_sum: 12.5,
            metrics: vec![
                MetricSums { output: None, metric: Metric::Accuracy, sums: vec![80.0, 100.0] },
                MetricSums {
                    output: Some("size".into()),
                    metric: Metric::RootMeanSquaredError,
                    sums: vec![0.1, f64::INFINITY],
                },
            ],
        },
        validation: Score { rows: 10, loss_sum: f64::INFINITY, metrics: Vec::new() },
    }
}

/// The digest of a model's version in these tests.
pub(crate) fn digest(model: ModelId, version: Version) -> Digest {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&model.0.to_be_bytes());
    bytes[4..12].copy_from_slice(&version.0.to_be_bytes());
    Digest(bytes)
}
