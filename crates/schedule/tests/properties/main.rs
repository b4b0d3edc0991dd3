//! The invariants HOP-1 to HOP-5 under random layouts, durations and faults.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fleet;
mod setting;

use std::time::Duration;

use arrowhop_schedule::{Event, Schedule, Visit, simulate};
use arrowhop_types::Timestamp;
use proptest::{prelude::*, test_runner::RngSeed};

use crate::{
    fleet::{Fleet, deed},
    setting::{faults, settings},
};

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_210_714),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn hop_1_hop_2_hop_3_hop_4_hold_whatever_goes_wrong(
        setting in settings(), faults in faults(),
    ) {
        let schedule = setting.learning();
        let mut fleet = Fleet::new(&setting, schedule);
        for fault in faults {
            fleet.suffer(fault);
            fleet.step();
        }
        fleet.finish();
        prop_assert_eq!(fleet.drained, 1);
        let visits = fleet.visits_per_epoch() * setting.options.epochs as usize;
        for model in setting.model_ids().filter(|model| !fleet.ended.contains(model)) {
            let epochs = 0..setting.options.epochs;
            let done: usize = epochs.map(|epoch| fleet.count(model, epoch)).sum();
            prop_assert_eq!(done, visits, "HOP-1: model {}", model);
        }
    }

    #[test]
    fn a_stop_lets_running_visits_end_and_starts_no_more(setting in settings(), steps in 0_usize..40) {
        let schedule = setting.learning();
        let mut fleet = Fleet::new(&setting, schedule);
        for _ in 0..steps {
            fleet.step();
        }
        let started = fleet.started.len();
        fleet.is_stopped = true;
        fleet.reserved.clear();
        fleet.give(&[Event::StopAfterVisits]);
        fleet.finish();
        prop_assert_eq!(fleet.started.len(), started);
        prop_assert_eq!(fleet.completed.len(), started);
        prop_assert_eq!(fleet.drained, 1);
    }

    #[test]
    fn hop_5_a_rebuilt_schedule_goes_on_as_the_one_it_replaces(
        setting in settings(), steps in 0_usize..60,
    ) {
        let mut setting = setting;
        setting.options.prefetch = false;
        let setting = &setting;
        let schedule =
            Schedule::new(setting.layout.clone(), setting.options, setting.known());
        let mut fleet = Fleet::new(setting, schedule);
        for _ in 0..steps {
            fleet.step();
        }
        let visits = std::mem::take(&mut fleet.running);
        let lost: Vec<_> =
            visits.into_keys().map(|visit| Event::VisitAbandoned { visit }).collect();
        let rebuilt =
            Schedule::new(setting.layout.clone(), setting.options, setting.known());
        let entrants = setting.model_ids().filter_map(|model| {
            Some(setting.entrant(model, fleet.schedule.progress(model)?))
        });
        let entrants = entrants.collect();
        let (crashed_at, started) = (fleet.now, fleet.started.len());
        fleet.give(&lost);
        fleet.finish();

        let outcome = simulate(rebuilt, entrants, Duration::ZERO, |visit| {
            setting.took(visit.model, visit.shard, visit.kind)
        });
        let place = |visit: &Visit, since: Duration| (since, visit.slot, deed(visit));
        let mut expected: Vec<_> = fleet.started[started..]
            .iter()
            .map(|(visit, started_at)| place(visit, started_at.since(crashed_at)))
            .collect();
        let mut resumed: Vec<_> = outcome
            .visits
            .iter()
            .map(|run| place(&run.visit, run.started_at.since(Timestamp(0))))
            .collect();
        expected.sort_unstable();
        resumed.sort_unstable();
        prop_assert_eq!(expected, resumed, "HOP-5");
    }
}
