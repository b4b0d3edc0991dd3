//! Class weights: from names or from counts to a weight for each class.

use std::collections::BTreeMap;

use arrow::array::{Array, Int32Array};
use arrowhop_source::Prepared;
use arrowhop_types::{Problems, Target, TargetColumn};

use crate::experiment::ClassWeight;

const PLACE: &str = "search.class_weight";

/// The weights of the prepared data's classes, in their order.
pub(crate) fn class_weights(
    wanted: &ClassWeight,
    prepared: &Prepared,
) -> Result<Vec<f64>, Problems> {
    let (column, names) = match prepared.data_set.targets.as_slice() {
        [TargetColumn { name, target: Target::Classes(names) }] => (name, names),
        [_] => {
            let text = "needs classes, but the target is numbers; leave it out";
            return Err(Problems::one(PLACE, text));
        }
        _ => return Err(Problems::one(PLACE, "needs a single target; leave it out")),
    };
    match wanted {
        ClassWeight::Balanced => balanced(names, &counts(prepared, column, names.len())),
        ClassWeight::ByName(weights) => by_name(names, weights),
    }
}

fn by_name(names: &[String], weights: &BTreeMap<String, f64>) -> Result<Vec<f64>, Problems> {
    let mut problems = Problems::new();
    for unknown in weights.keys().filter(|name| !names.contains(name)) {
        let text = format!("there is no class {unknown:?}; there are {}", names.join(", "));
        problems.push(PLACE, text);
    }
    problems.or(names.iter().map(|name| weights.get(name).copied().unwrap_or(1.0)).collect())
}

/// Rows over classes times a class's rows, so that the weights of all rows add up to their number.
#[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^53")]
fn balanced(names: &[String], counts: &[u64]) -> Result<Vec<f64>, Problems> {
    let mut problems = Problems::new();
    for (name, _) in names.iter().zip(counts).filter(|(_, count)| **count == 0) {
        let text = format!("class {name:?} has no training rows to be balanced; give weights");
        problems.push(PLACE, text);
    }
    let share = counts.iter().sum::<u64>() as f64 / names.len() as f64;
    problems.or(counts.iter().map(|&count| share / count as f64).collect())
}

/// Training rows of each class.
fn counts(prepared: &Prepared, column: &str, classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for batch in prepared.shards.iter().flat_map(|shard| &shard.train) {
        let column = batch.column_by_name(column).map(|column| column.as_any().downcast_ref());
        let indices: &Int32Array = column.flatten().expect("a prepared class is its index");
        for &class in indices.values() {
            counts[usize::try_from(class).expect("an index is not negative")] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["cat", "dog", "owl"].map(str::to_owned).to_vec()
    }

    #[test]
    fn balanced_weights_let_every_class_count_the_same() {
        let weights = balanced(&names(), &[6, 2, 4]).unwrap();
        assert_eq!(weights, [4.0 / 6.0, 2.0, 1.0]);
        let refused = balanced(&names(), &[6, 0, 4]).unwrap_err().to_string();
        assert!(refused.contains("class \"dog\" has no training rows"), "{refused}");
    }

    #[test]
    fn names_that_are_no_classes_are_all_refused() {
        let weights = |given: &[(&str, f64)]| {
            by_name(&names(), &given.iter().map(|(name, w)| ((*name).to_owned(), *w)).collect())
        };
        assert_eq!(weights(&[("dog", 2.5)]).unwrap(), [1.0, 2.5, 1.0]);
        let refused = weights(&[("fox", 1.0), ("owl", 2.0), ("wolf", 1.0)]).unwrap_err();
        assert_eq!(refused.iter().count(), 2);
        assert!(refused.to_string().contains("no class \"fox\"; there are cat, dog, owl"));
    }
}
