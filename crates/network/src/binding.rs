//! Which columns of a data set a network takes and learns, and whether it can.

use arrowhop_types::{ClassList, Encoding, InputSpec, Problems, Target, TargetColumn};

use crate::NetworkSpec;
use crate::graph::{Input, Output};

/// A network's columns, by their places in the data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Of each of the network's inputs.
    pub inputs: Vec<usize>,
    /// Of each of its outputs.
    pub targets: Vec<usize>,
}

impl NetworkSpec {
    /// Finds the network's columns. Where every input has a column of its name, that is the one, and
    /// columns may be left over; else the columns are taken in their order, and must be as many.
    /// Outputs and targets go alike.
    ///
    /// # Errors
    /// Every input and output without a column that suits it: by shape, by meaning, by vocabulary;
    /// an output by its width.
    pub fn bind(
        &self,
        inputs: &[InputSpec],
        targets: &[TargetColumn],
    ) -> Result<Binding, Problems> {
        let graph = self.graph();
        let mut problems = Problems::new();
        let wanted: Vec<_> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
        let given: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
        let bound_inputs = matched(&wanted, &given)
            .map_err(|()| problems.push("input", counted("takes", &wanted, "inputs", &given)));
        for (number, (input, &column)) in
            graph.inputs.iter().zip(bound_inputs.iter().flatten()).enumerate()
        {
            self.check_input(number, input, &inputs[column], &mut problems);
        }
        let wanted: Vec<_> = graph.outputs.iter().map(|output| output.name.as_str()).collect();
        let given: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        let bound_targets = matched(&wanted, &given)
            .map_err(|()| problems.push("output", counted("has", &wanted, "outputs", &given)));
        for (output, &column) in graph.outputs.iter().zip(bound_targets.iter().flatten()) {
            let place = place("output", &output.name, wanted.len());
            check_output(output, &targets[column].target, place, &mut problems);
        }
        problems.or(Binding {
            inputs: bound_inputs.unwrap_or_default(),
            targets: bound_targets.unwrap_or_default(),
        })
    }

    fn check_input(
        &self,
        number: usize,
        input: &Input,
        column: &InputSpec,
        problems: &mut Problems,
    ) {
        let place = place("input", &input.name, self.graph().inputs.len());
        let shape = column.network_shape();
        if input.shape != shape {
            let text = format!(
                "the network takes {:?}, but an example of the data is {shape:?}",
                input.shape
            );
            problems.push(place, text);
            return;
        }
        let Some((layer, embedded)) = self.vocabulary(number) else { return };
        match column.encoding {
            Encoding::Tokens { vocabulary } if vocabulary <= embedded => {}
            Encoding::Tokens { vocabulary } => problems.push(
                place,
                format!(
                    "the data has tokens up to {}, but the Embedding {layer:?} has 0 to {}; give \
                     it an input_dim of at least {vocabulary}",
                    vocabulary - 1,
                    embedded - 1
                ),
            ),
            Encoding::Numbers { .. } | Encoding::OneHot { .. } => problems.push(
                place,
                format!(
                    "the Embedding {layer:?} takes tokens, but the data has numbers; say \
                     tokens = true of the column"
                ),
            ),
        }
    }
}

/// For each name that is wanted the place of the one given.
fn matched(wanted: &[&str], given: &[&str]) -> Result<Vec<usize>, ()> {
    let by_name: Option<Vec<_>> =
        wanted.iter().map(|name| given.iter().position(|other| other == name)).collect();
    match by_name {
        Some(places) => Ok(places),
        None if wanted.len() == given.len() => Ok((0..wanted.len()).collect()),
        None => Err(()),
    }
}

fn counted(verb: &str, wanted: &[&str], what: &str, given: &[&str]) -> String {
    format!(
        "the network {verb} {} {what} ({}), but the data has {} ({}), and not all names agree",
        wanted.len(),
        wanted.join(", "),
        given.len(),
        given.join(", ")
    )
}

/// Where a problem is: an input or output goes by its name where there are several.
fn place(what: &str, name: &str, count: usize) -> String {
    if count == 1 { what.to_owned() } else { format!("{what} {name}") }
}

fn check_output(output: &Output, target: &Target, place: String, problems: &mut Problems) {
    let (elements, width) = (output.shape.iter().product::<usize>(), target.width());
    let is_binary = matches!(target, Target::Classes(_)) && (elements, width) == (1, 2);
    if elements != width && !is_binary {
        let what = match target {
            Target::Classes(list) if elements > width => {
                format!("{width} classes{}; num_classes = {elements} pads them", padding(list))
            }
            Target::Classes(list) => format!("{width} classes{}", padding(list)),
            Target::Values(_) => format!("{width} values"),
        };
        let text = format!("the network has {elements} outputs, but the data has {what}");
        problems.push(place, text);
    }
}

/// What of the classes is padding, for people.
fn padding(list: &ClassList) -> String {
    match list.len() - list.classes() {
        0 => String::new(),
        padding => format!(", {padding} of them padding"),
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::Dtype;
    use serde_json::json;

    use super::*;

    /// Tokens `words` (4) through an Embedding of 10, and numbers `facts` (3), to `kind` (2 classes)
    /// and `size` (one value).
    fn two_by_two() -> NetworkSpec {
        let layer = |class: &str, name: &str, config: serde_json::Value, from: &[&str]| {
            let calls: Vec<_> = from.iter().map(|from| json!([from, 0, 0, {}])).collect();
            let mut config = config;
            config["name"] = json!(name);
            let nodes = if calls.is_empty() { json!([]) } else { json!([calls]) };
            json!({"class_name": class, "name": name, "config": config, "inbound_nodes": nodes})
        };
        let input = |name, size: usize| {
            layer("InputLayer", name, json!({"batch_input_shape": [null, size]}), &[])
        };
        let model = json!({"class_name": "Functional", "config": {
            "name": "m",
            "layers": [
                input("words", 4),
                input("facts", 3),
                layer("Embedding", "embed", json!({"input_dim": 10, "output_dim": 2}), &["words"]),
                layer("Flatten", "flat", json!({}), &["embed"]),
                layer("Concatenate", "all", json!({"axis": -1}), &["flat", "facts"]),
                layer("Dense", "kind", json!({"units": 2, "activation": "softmax"}), &["all"]),
                layer("Dense", "size", json!({"units": 1}), &["all"]),
            ],
            "input_layers": [["words", 0, 0], ["facts", 0, 0]],
            "output_layers": [["kind", 0, 0], ["size", 0, 0]],
        }});
        NetworkSpec::parse(&model.to_string()).unwrap()
    }

    #[test]
    fn a_network_wider_than_the_classes_is_told_how_to_pad_them() {
        let model = json!({"class_name": "Sequential", "config": {"layers": [
            {"class_name": "Dense", "config": {
                "name": "d", "units": 5, "batch_input_shape": [null, 3]}}]}});
        let network = NetworkSpec::parse(&model.to_string()).unwrap();
        let found = |names: &[Option<&str>]| {
            let names = names.iter().map(|name| name.map(str::to_owned)).collect();
            let target = TargetColumn::only(Target::Classes(ClassList::new(names)));
            network.bind(&[facts("x")], &[target]).map_err(|problems| problems.to_string())
        };
        assert!(found(&[None, Some("a"), Some("b"), None, None]).is_ok());
        assert_eq!(
            found(&[Some("a"), Some("b"), Some("c")]).unwrap_err(),
            "output: the network has 5 outputs, but the data has 3 classes; num_classes = 5 pads \
             them"
        );
        assert_eq!(
            found(&[Some("a"), Some("b"), None, None, None, None]).unwrap_err(),
            "output: the network has 5 outputs, but the data has 6 classes, 4 of them padding"
        );
    }

    fn tokens(name: &str, vocabulary: u32) -> InputSpec {
        InputSpec {
            name: name.into(),
            shape: vec![4],
            dtype: Dtype::I32,
            encoding: Encoding::Tokens { vocabulary },
        }
    }

    fn facts(name: &str) -> InputSpec {
        InputSpec { name: name.into(), ..InputSpec::numbers(vec![3], Dtype::F32, 1.0) }
    }

    fn targets(names: [&str; 2]) -> Vec<TargetColumn> {
        let classes = Target::Classes(ClassList::named(["a", "b"]));
        let targets = names.into_iter().zip([classes, Target::Values(1)]);
        targets.map(|(name, target)| TargetColumn { name: name.into(), target }).collect()
    }

    #[test]
    fn columns_are_found_by_name_and_else_by_order() {
        let network = two_by_two();
        let mut by_name = targets(["kind", "size"]);
        by_name.reverse();
        let columns = [facts("facts"), facts("more"), tokens("words", 10)];
        let bound = network.bind(&columns, &by_name).unwrap();
        assert_eq!(bound, Binding { inputs: vec![2, 0], targets: vec![1, 0] });
        let columns = [tokens("a", 10), facts("b")];
        let bound = network.bind(&columns, &targets(["c", "d"])).unwrap();
        assert_eq!(bound, Binding { inputs: vec![0, 1], targets: vec![0, 1] });
    }

    #[test]
    fn all_that_does_not_suit_is_said_at_once() {
        let network = two_by_two();
        let columns = [tokens("words", 11), tokens("facts", 2)];
        let mut wide = targets(["kind", "size"]);
        wide[1].target = Target::Values(3);
        assert_eq!(
            network.bind(&columns, &wide).unwrap_err().to_string(),
            "input words: the data has tokens up to 10, but the Embedding \"embed\" has 0 to 9; \
             give it an input_dim of at least 11\n\
             input facts: the network takes [3], but an example of the data is [4]\n\
             output size: the network has 1 outputs, but the data has 3 values"
        );
        let columns = [InputSpec { shape: vec![4], ..facts("words") }];
        assert_eq!(
            network.bind(&columns, &targets(["kind", "size"])[..1]).unwrap_err().to_string(),
            "input: the network takes 2 inputs (words, facts), but the data has 1 (words), and not \
             all names agree\n\
             output: the network has 2 outputs (kind, size), but the data has 1 (kind), and not \
             all names agree"
        );
        let columns = [InputSpec { shape: vec![4], ..facts("words") }, facts("facts")];
        assert_eq!(
            network.bind(&columns, &targets(["kind", "size"])).unwrap_err().to_string(),
            "input words: the Embedding \"embed\" takes tokens, but the data has numbers; say \
             tokens = true of the column"
        );
    }
}
