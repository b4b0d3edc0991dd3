//! A visit order fixed before the run: what the schedule would do if the estimates were true.

use std::{collections::BTreeMap, time::Duration};

use arrowhop_types::{ModelId, Problems, ShardId, VisitKind};

use crate::{Entrant, Estimates, Layout, Options, Progress, Schedule, simulate};

/// Each model's order of training visits over all epochs, for `VisitOrder::Planned`: the outcome
/// of a simulated run in which every training visit of a model takes what `models` says.
///
/// A run that keeps to it gives the same weights on any cluster, at the price of some idle time
/// where visits take other than expected.
///
/// # Errors
/// As [`Entrant::new`].
pub fn plan(
    layout: &Layout,
    options: &Options,
    models: &[(ModelId, Duration)],
) -> Result<Vec<Vec<ShardId>>, Problems> {
    let shards = layout.shards().len();
    let rows = models.iter().map(|&(model, visit)| (model, vec![visit; shards]));
    let estimates = Estimates::known(rows);
    let takes: BTreeMap<_, _> = models.iter().copied().collect();
    let entrants = models
        .iter()
        .map(|&(model, visit)| {
            Entrant::new(layout, options, model, Progress::fresh(), vec![], visit)
        })
        .collect::<Result<_, _>>()?;
    let options = Options { prefetch: false, ..*options };
    let schedule = Schedule::new(layout.clone(), options, estimates);
    let outcome = simulate(schedule, entrants, Duration::ZERO, |visit| match visit.kind {
        VisitKind::Train => takes[&visit.model],
        VisitKind::Evaluate => takes[&visit.model].mul_f64(Estimates::EVALUATION_SHARE),
    });
    let mut orders: BTreeMap<_, _> = models.iter().map(|&(model, _)| (model, vec![])).collect();
    for run in outcome.visits.iter().filter(|run| run.visit.kind == VisitKind::Train) {
        orders.entry(run.visit.model).or_default().push(run.visit.shard);
    }
    Ok(models.iter().map(|(model, _)| orders.remove(model).unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{SegmentId, SlotId};

    use super::*;

    #[test]
    fn a_plan_is_a_prescribed_order_of_every_epoch() {
        let segments: Vec<_> = (0..3).map(SegmentId).collect();
        let slots = segments.iter().map(|&segment| SlotId { segment, index: 0 }).collect();
        let layout = Layout::new(slots, segments).unwrap();
        let options = Options { epochs: 2, evaluates: true, ..Options::default() };
        let models = [(ModelId(1), Duration::from_secs(1)), (ModelId(2), Duration::from_secs(3))];
        let orders = plan(&layout, &options, &models).unwrap();
        assert_eq!(orders.len(), 2);
        for (&(model, visit), order) in models.iter().zip(orders) {
            assert_eq!(order.len(), 6);
            let entered = Entrant::new(&layout, &options, model, Progress::fresh(), order, visit);
            assert!(entered.is_ok());
        }
    }
}
