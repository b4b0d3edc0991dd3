//! The published instances: every makespan of two-sided LRPT, exactly, by valid schedules.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, time::Duration};

use arrowhop_schedule::{
    Entrant, Estimates, Layout, Options, Outcome, Progress, Schedule, lower_bound, simulate,
};
use arrowhop_types::{ModelId, SegmentId, SlotId, VisitKind};
use serde_json::Value;

/// One instance of `cases.json`; a tick is a microsecond.
struct Case {
    id: String,
    epochs: u32,
    times: Vec<Vec<Duration>>,
    lower_bound: Duration,
    lrpt_makespan: Duration,
}

impl Case {
    fn read(case: &Value) -> Self {
        let ticks = |value: &Value| Duration::from_micros(value.as_u64().unwrap());
        let row = |row: &Value| row.as_array().unwrap().iter().map(ticks).collect();
        Self {
            id: case["id"].as_str().unwrap().to_owned(),
            epochs: u32::try_from(case["K"].as_u64().unwrap()).unwrap(),
            times: case["times"].as_array().unwrap().iter().map(row).collect(),
            lower_bound: ticks(&case["lower_bound"]),
            lrpt_makespan: ticks(&case["lrpt_makespan"]),
        }
    }

    fn models(&self) -> impl Iterator<Item = ModelId> {
        (1..).map(ModelId).take(self.times.len())
    }

    fn run(&self) -> Outcome {
        let workers = u32::try_from(self.times[0].len()).unwrap();
        let segments: Vec<_> = (0..workers).map(SegmentId).collect();
        let slots = segments.iter().map(|&segment| SlotId { segment, index: 0 }).collect();
        let layout = Layout::new(slots, segments).unwrap();
        let options = Options { epochs: self.epochs, prefetch: false, ..Options::default() };
        let enter = |model| {
            let start = Progress::fresh();
            Entrant::new(&layout, &options, model, start, vec![], Duration::ZERO).unwrap()
        };
        let entrants = self.models().map(enter).collect();
        let estimates = Estimates::known(self.models().zip(self.times.clone()));
        let schedule = Schedule::new(layout, options, estimates);
        simulate(schedule, entrants, Duration::ZERO, |visit| {
            self.times[visit.model.0 as usize - 1][visit.shard.0 as usize]
        })
    }

    /// Exactly once, no overlap on a slot or a model, epochs in order.
    fn check(&self, outcome: &Outcome) {
        let id = &self.id;
        let mut slots: BTreeMap<SlotId, Vec<_>> = BTreeMap::new();
        let mut models: BTreeMap<ModelId, Vec<_>> = BTreeMap::new();
        for run in &outcome.visits {
            assert_eq!(run.visit.kind, VisitKind::Train);
            let span = (run.started_at, run.ended_at);
            slots.entry(run.visit.slot).or_default().push(span);
            models.entry(run.visit.model).or_default().push((span, run.visit));
        }
        for spans in slots.values_mut() {
            spans.sort_unstable();
            assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{id}: slots overlap");
        }
        assert_eq!(models.len(), self.times.len(), "{id}");
        let shards = self.times[0].len();
        for visits in models.values_mut() {
            visits.sort_unstable_by_key(|(span, _)| *span);
            assert!(visits.windows(2).all(|pair| pair[0].0.1 <= pair[1].0.0), "{id}: overlap");
            assert_eq!(visits.len(), shards * self.epochs as usize, "{id}");
            for (epoch, visits) in (0..).zip(visits.chunks(shards)) {
                assert!(visits.iter().all(|(_, visit)| visit.epoch == epoch), "{id}: epoch order");
                let mut seen: Vec<_> = visits.iter().map(|(_, visit)| visit.shard).collect();
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), shards, "{id}: a shard was visited twice in an epoch");
            }
        }
    }
}

#[test]
fn lrpt_makespans_are_those_published() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/schedule/cases.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: the published instances are not beside this checkout");
        return;
    };
    let root: Value = serde_json::from_str(&text).unwrap();
    let cases: Vec<_> = root["cases"].as_array().unwrap().iter().map(Case::read).collect();
    assert_eq!(cases.len(), 40);
    for case in &cases {
        let outcome = case.run();
        case.check(&outcome);
        assert_eq!(lower_bound(&case.times, case.epochs), case.lower_bound, "{}", case.id);
        assert_eq!(outcome.makespan, case.lrpt_makespan, "{}", case.id);
    }
}
