//! MOP is sequential SGD: hopping gives, bit for bit, the weights of training one model alone over
//! the shards in the hop log's order. Everything else rests on this.

use std::ops::ControlFlow;
use std::path::Path;

use arrowhop::experiment::{Bounds, Experiment};
use arrowhop_catalog::Catalog;
use arrowhop_segment::rows;
use arrowhop_source::{Prepared, prepare};
use arrowhop_tests::{Program, digests, shapes, task_of};
use arrowhop_train::{Visit, initial_state, train_visit};
use arrowhop_types::{Digest, ModelId, RunId, RunRecord, Score, Version, VisitKind, VisitRecord};

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

/// Trains one model alone, over the shards in the order of its visits. Returns the digest after
/// each visit.
fn train_alone(
    record: &RunRecord,
    model: ModelId,
    visits: &[VisitRecord],
    prepared: &Prepared,
) -> Vec<Digest> {
    let task = task_of(record, model);
    let mut state = initial_state(&task).expect("initialise");
    let mut go_on = |_: u64, _: &Score| ControlFlow::Continue(());
    let mut digests = Vec::new();
    for visit in visits.iter().filter(|v| v.model == model && v.kind == VisitKind::Train) {
        let shard = &prepared.shards[visit.shard.0 as usize];
        let rows = rows(&task, &shard.train).expect("a prepared shard has rows");
        let at = Visit { epoch: visit.epoch, shard: visit.shard };
        let trained = train_visit(&task, &state, at, &rows, &mut go_on).expect("train");
        digests.push(trained.digest);
        state = trained.state;
    }
    digests
}

fn prepared(file: &Path) -> Prepared {
    let experiment = Experiment::read(file, None, Bounds::default()).expect("read");
    prepare(&experiment.data).expect("prepare")
}

/// Runs an experiment, and trains each of its models alone.
fn assert_parity(shards: u32, seed: u64, more: &str, arguments: &[&str]) {
    let program = Program::new(BINARY);
    let experiment = shapes(260, shards, 2, seed, more);
    let file = experiment.argument();
    let all: Vec<&str> =
        ["fit", &file, "--output", "json"].iter().chain(arguments).copied().collect();
    let result = program.json(&all);
    assert_eq!(result["status"], "finished");

    let catalog = Catalog::open_read_only(program.state()).expect("open the catalog");
    let record = catalog.run(RunId(1)).expect("the run is recorded");
    let visits = catalog.visits(RunId(1)).expect("the hop log is there");
    assert_eq!(record.spec.seed, seed, "the seed is in the catalog");
    let prepared = prepared(&experiment.file());
    assert_eq!(prepared.data_set, record.spec.data);

    for model in &record.models {
        let hopped: Vec<Digest> = visits
            .iter()
            .filter(|v| v.model == model.model && v.kind == VisitKind::Train)
            .map(|visit| visit.digest)
            .collect();
        assert_eq!(hopped.len(), 2 * shards as usize, "every shard in every epoch");
        let alone = train_alone(&record, model.model, &visits, &prepared);
        assert_eq!(hopped, alone, "model {} with {shards} shards", model.model);
        let last = Version(u64::from(2 * shards));
        let kept = model.checkpoint.expect("the last state is in the model store");
        assert_eq!(kept, (last, *alone.last().expect("it was trained")));
    }
    assert_each_epoch_is_whole(&record, &visits, shards);
}

/// HOP-1: every model visits every shard once per epoch, to train and to be evaluated.
fn assert_each_epoch_is_whole(record: &RunRecord, visits: &[VisitRecord], shards: u32) {
    for (model, _) in record.spec.models() {
        for epoch in 0..record.spec.epochs {
            for kind in [VisitKind::Train, VisitKind::Evaluate] {
                let mut visited: Vec<u32> = visits
                    .iter()
                    .filter(|v| v.model == model && v.epoch == epoch && v.kind == kind)
                    .map(|visit| visit.shard.0)
                    .collect();
                visited.sort_unstable();
                let whole: Vec<u32> = (0..shards).collect();
                assert_eq!(visited, whole, "model {model}, epoch {epoch}, {kind:?}");
            }
        }
    }
}

#[test]
fn hop_1_hopping_over_four_segments_is_sequential_sgd() {
    assert_parity(4, 1, "", &[]);
}

#[test]
fn hop_1_more_shards_than_segments_and_several_slots_is_sequential_sgd() {
    assert_parity(5, 2, "", &["--segments", "2", "--slots", "2"]);
}

#[test]
fn hop_1_one_shard_is_sequential_sgd() {
    assert_parity(1, 3, "", &[]);
}

#[test]
fn hop_1_restarting_optimizers_at_each_hop_is_sequential_sgd() {
    assert_parity(3, 4, "reset_optimizer_each_visit = true", &[]);
}

#[test]
fn a_planned_order_gives_the_same_bits_on_any_cluster() {
    let experiment = shapes(200, 4, 2, 9, "order = \"planned\"");
    let file = experiment.argument();
    let result = |segments: &str, slots: &str| {
        let program = Program::new(BINARY);
        let arguments =
            ["fit", &file, "--output", "json", "--segments", segments, "--slots", slots];
        digests(&program.json(&arguments))
    };
    let four = result("4", "1");
    assert_eq!(four, result("1", "2"));
    assert_eq!(four, result("3", "1"));
}

#[test]
fn the_order_of_an_earlier_run_gives_its_bits_again() {
    let program = Program::new(BINARY);
    let experiment = shapes(200, 4, 2, 9, "");
    let file = experiment.argument();
    let first = program.json(&["fit", &file, "--output", "json"]);
    let again = ["fit", &file, "--output", "json", "--same-order-as", "1", "--segments", "2"];
    assert_eq!(digests(&first), digests(&program.json(&again)));
}
