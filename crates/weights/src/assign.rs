//! Which array of a file is which of the network: all of them, by their order, or some, by the names
//! of their layers.

use arrowhop_types::Problems;

use crate::arrays::{ArraySpec, Entry, Stored};

/// What a network took from a file that has only some of its layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// For each of the network's arrays, the file's numbers; `None` where they are to be drawn.
    pub arrays: Vec<Option<Vec<f32>>>,
    /// The layers whose arrays were taken.
    pub loaded: Vec<String>,
    /// The layers that were not, and why.
    pub fresh: Vec<(String, String)>,
}

/// Every array of a network from a file that has just these.
pub(crate) fn all(
    stored: &mut dyn Stored,
    wanted: &[ArraySpec],
) -> Result<Vec<Vec<f32>>, Problems> {
    let mut problems = Problems::new();
    let found = pair(stored, wanted, &mut problems);
    for (array, entry) in wanted.iter().zip(&found) {
        let Some(entry) = entry.map(|entry| &stored.entries()[entry]) else {
            problems.push(&array.name, format!("is missing; it has shape {:?}", array.shape));
            continue;
        };
        if entry.shape != array.shape {
            problems.push(&array.name, wrong_shape(array, entry));
        }
    }
    // Nothing is read of a file that does not fit.
    let found: Vec<usize> = problems.or(found)?.into_iter().flatten().collect();
    let mut problems = Problems::new();
    let mut values = Vec::with_capacity(wanted.len());
    for (array, entry) in wanted.iter().zip(found) {
        match checked(stored, array, entry) {
            Ok(numbers) => values.push(numbers),
            Err(text) => problems.push(&array.name, text),
        }
    }
    problems.or(values)
}

/// For each wanted array its place in the file; what the file has beyond is a problem.
fn pair(stored: &dyn Stored, wanted: &[ArraySpec], problems: &mut Problems) -> Vec<Option<usize>> {
    let entries = stored.entries();
    if stored.is_ordered() && entries.len() == wanted.len() {
        return (0..wanted.len()).map(Some).collect();
    }
    let mut is_used = vec![false; entries.len()];
    let mut take = |fits: &dyn Fn(&Entry) -> bool| {
        let free = |i: &usize| !is_used[*i] && fits(&entries[*i]);
        let found = (0..entries.len()).find(free)?;
        is_used[found] = true;
        Some(found)
    };
    let found = wanted
        .iter()
        .map(|array| {
            if stored.is_ordered() {
                take(&|entry| entry.layer() == array.layer())
            } else {
                take(&|entry| entry.name == array.name)
            }
        })
        .collect();
    for (entry, is_used) in entries.iter().zip(is_used) {
        if !is_used {
            let text = format!("is in the file, but not in the network ({:?})", entry.shape);
            problems.push(&entry.place, text);
        }
    }
    found
}

/// The layers of a network that a file has under the same name and with the same shapes.
pub(crate) fn by_name(stored: &mut dyn Stored, wanted: &[ArraySpec]) -> Result<Transfer, Problems> {
    let mut problems = Problems::new();
    let mut arrays = Vec::with_capacity(wanted.len());
    let (mut loaded, mut fresh) = (Vec::new(), Vec::new());
    for layer in wanted.chunk_by(|a, b| a.layer() == b.layer()) {
        let name = layer[0].layer().to_owned();
        match layer_entries(stored.entries(), layer) {
            Err(reason) => {
                arrays.extend(layer.iter().map(|_| None));
                fresh.push((name, reason));
            }
            Ok(found) => {
                for (array, entry) in layer.iter().zip(found) {
                    match checked(stored, array, entry) {
                        Ok(numbers) => arrays.push(Some(numbers)),
                        Err(text) => problems.push(&array.name, text),
                    }
                }
                loaded.push(name);
            }
        }
    }
    if loaded.is_empty() && !wanted.is_empty() {
        let names: Vec<_> = stored.entries().iter().map(Entry::layer).collect();
        let mut names: Vec<_> = names.chunk_by(|a, b| a == b).map(|same| same[0]).collect();
        names.truncate(20);
        problems.push("layers", format!("none is in the file, which has {}", names.join(", ")));
    }
    problems.or(Transfer { arrays, loaded, fresh })
}

/// A layer's arrays in the file, or why they cannot be used.
fn layer_entries(entries: &[Entry], layer: &[ArraySpec]) -> Result<Vec<usize>, String> {
    let of_layer = |i: &usize| entries[*i].layer() == layer[0].layer();
    let found: Vec<usize> = (0..entries.len()).filter(of_layer).collect();
    if found.is_empty() {
        return Err("is not in the file".to_owned());
    }
    if found.len() != layer.len() {
        let (has, wants) = (found.len(), layer.len());
        return Err(format!("has {has} arrays in the file, but {wants} in the network"));
    }
    for (array, entry) in layer.iter().zip(&found) {
        if entries[*entry].shape != array.shape {
            return Err(format!("{}: {}", array.name, wrong_shape(array, &entries[*entry])));
        }
    }
    Ok(found)
}

fn wrong_shape(array: &ArraySpec, entry: &Entry) -> String {
    format!("has shape {:?}, but {} in the file has {:?}", array.shape, entry.place, entry.shape)
}

/// An array's numbers, all of them finite.
fn checked(stored: &mut dyn Stored, array: &ArraySpec, entry: usize) -> Result<Vec<f32>, String> {
    let values = stored.values(entry)?;
    finite(array, &values)?;
    Ok(values)
}

/// Refuses what is not a number, with its position.
pub(crate) fn finite(array: &ArraySpec, values: &[f32]) -> Result<(), String> {
    let Some(at) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let mut position = Vec::new();
    let mut rest = at;
    for extent in array.shape.iter().rev() {
        position.push(rest % extent);
        rest /= extent;
    }
    position.reverse();
    Err(format!("is {} at {position:?}; weights must be finite numbers", values[at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Listed, arrays};

    #[test]
    fn the_order_decides_where_the_counts_are_the_same() {
        let mut file = Listed::new(true, &[("x/0", &[2, 1]), ("y/0", &[1])]);
        let wanted = arrays(&[("a/kernel", &[2, 1]), ("a/bias", &[1])]);
        let values = all(&mut file, &wanted).unwrap();
        assert_eq!(values, [vec![0.0, 0.0], vec![1.0]]);
    }

    #[test]
    fn names_decide_where_there_is_no_order() {
        let mut file = Listed::new(false, &[("a/bias", &[1]), ("a/kernel", &[2, 1])]);
        let wanted = arrays(&[("a/kernel", &[2, 1]), ("a/bias", &[1])]);
        assert_eq!(all(&mut file, &wanted).unwrap(), [vec![1.0, 1.0], vec![0.0]]);
    }

    #[test]
    fn whatever_does_not_fit_is_named_at_once() {
        let mut file =
            Listed::new(true, &[("a/0", &[3, 1]), ("a/1", &[1]), ("a/2", &[1]), ("b/0", &[2])]);
        let wanted = arrays(&[
            ("a/kernel", &[2, 1]),
            ("a/bias", &[1]),
            ("b/kernel", &[2]),
            ("b/bias", &[2]),
            ("c/kernel", &[4]),
        ]);
        let problems = all(&mut file, &wanted).unwrap_err().to_string();
        assert_eq!(
            problems.lines().collect::<Vec<_>>(),
            [
                "file:a/2: is in the file, but not in the network ([1])",
                "a/kernel: has shape [2, 1], but file:a/0 in the file has [3, 1]",
                "b/bias: is missing; it has shape [2]",
                "c/kernel: is missing; it has shape [4]",
            ]
        );
        assert_eq!(file.reads, 0, "nothing was read");
    }

    #[test]
    fn a_number_that_is_none_is_named_with_its_position() {
        let mut file = Listed::new(true, &[("a/0", &[2, 3])]);
        file.values = vec![vec![0.0, 1.0, 2.0, 3.0, f32::NAN, 5.0]];
        let wanted = arrays(&[("a/kernel", &[2, 3])]);
        let problems = all(&mut file, &wanted).unwrap_err().to_string();
        assert_eq!(problems, "a/kernel: is NaN at [1, 1]; weights must be finite numbers");
    }

    #[test]
    fn shared_layers_are_taken_and_the_others_say_why_not() {
        let file = [("b/0", &[2_usize, 2][..]), ("b/1", &[2]), ("c/0", &[9]), ("d/0", &[1])];
        let mut file = Listed::new(true, &file);
        let wanted = arrays(&[
            ("a/kernel", &[2]),
            ("b/kernel", &[2, 2]),
            ("b/bias", &[2]),
            ("c/kernel", &[8]),
            ("d/kernel", &[1]),
            ("d/bias", &[1]),
        ]);
        let transfer = by_name(&mut file, &wanted).unwrap();
        assert_eq!(transfer.loaded, ["b"]);
        let fresh: Vec<_> = transfer.fresh.iter().map(|(a, b)| format!("{a}: {b}")).collect();
        assert_eq!(
            fresh,
            [
                "a: is not in the file",
                "c: c/kernel: has shape [8], but file:c/0 in the file has [9]",
                "d: has 1 arrays in the file, but 2 in the network",
            ]
        );
        let is_taken: Vec<_> = transfer.arrays.iter().map(Option::is_some).collect();
        assert_eq!(is_taken, [false, true, true, false, false, false]);
        let nothing = by_name(&mut file, &arrays(&[("z/kernel", &[2])])).unwrap_err().to_string();
        assert_eq!(nothing, "layers: none is in the file, which has b, c, d");
    }
}
