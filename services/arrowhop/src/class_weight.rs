//! Class weights: from names or from counts to a weight for each class.

use std::collections::BTreeMap;

use arrow::array::{Array, Int32Array};
use arrowhop_source::Prepared;
use arrowhop_types::{ClassList, Problems, Target, TargetColumn};

use crate::experiment::ClassWeight;

const PLACE: &str = "search.class_weight";

/// The weights of the prepared data's classes, in their order.
pub(crate) fn class_weights(
    wanted: &ClassWeight,
    prepared: &Prepared,
) -> Result<Vec<f64>, Problems> {
    let (column, list) = match prepared.data_set.targets.as_slice() {
        [TargetColumn { name, target: Target::Classes(list) }] => (name, list),
        [_] => {
            let text = "needs classes, but the target is numbers; leave it out";
            return Err(Problems::one(PLACE, text));
        }
        _ => return Err(Problems::one(PLACE, "needs a single target; leave it out")),
    };
    match wanted {
        ClassWeight::Balanced => balanced(list, &counts(prepared, column, list.len())),
        ClassWeight::ByName(weights) => by_name(list, weights),
    }
}

fn by_name(list: &ClassList, weights: &BTreeMap<String, f64>) -> Result<Vec<f64>, Problems> {
    let mut problems = Problems::new();
    let names: Vec<&str> = list.names().iter().flatten().map(String::as_str).collect();
    for unknown in weights.keys().filter(|name| !names.contains(&name.as_str())) {
        let text = format!("there is no class {unknown:?}; there are {}", names.join(", "));
        problems.push(PLACE, text);
    }
    let weight = |name: &Option<String>| weights.get(name.as_ref()?).copied();
    problems.or(list.names().iter().map(|name| weight(name).unwrap_or(1.0)).collect())
}

/// Rows over classes times a class's rows, so that the weights of all rows add up to their number.
/// Padding has no rows, and weighs 1.
#[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^53")]
fn balanced(list: &ClassList, counts: &[u64]) -> Result<Vec<f64>, Problems> {
    let mut problems = Problems::new();
    let is_class = |class: &usize| list.is_class(*class);
    for class in (0..counts.len()).filter(is_class).filter(|class| counts[*class] == 0) {
        let name = list.shown(class);
        let text = format!("class {name:?} has no training rows to be balanced; give weights");
        problems.push(PLACE, text);
    }
    let share = counts.iter().sum::<u64>() as f64 / list.classes() as f64;
    let weight =
        |class: usize| if list.is_class(class) { share / counts[class] as f64 } else { 1.0 };
    problems.or((0..counts.len()).map(weight).collect())
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

    fn names() -> ClassList {
        ClassList::named(["cat", "dog", "owl"])
    }

    #[test]
    fn balanced_weights_let_every_class_count_the_same() {
        let weights = balanced(&names(), &[6, 2, 4]).unwrap();
        assert_eq!(weights, [4.0 / 6.0, 2.0, 1.0]);
        let refused = balanced(&names(), &[6, 0, 4]).unwrap_err().to_string();
        assert!(refused.contains("class \"dog\" has no training rows"), "{refused}");
        let padded = ClassList::new(vec![None, Some("cat".into()), None]);
        assert_eq!(balanced(&padded, &[6, 2, 0]).unwrap(), [4.0 / 6.0, 2.0, 1.0]);
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
