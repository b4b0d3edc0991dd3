//! Who calls whom in a functional model, and an order of the calls in which each finds its inputs
//! made. Knows nothing of what layers compute.

use std::collections::{BTreeMap, BTreeSet};

use arrowhop_types::Problems;
use serde_json::Value;

use super::arguments::{Arguments, Reference};
use super::builder::APPLICATIONS_MAX;
use super::entry::Entry;
use crate::fields::{Fields, shown};

/// Operations that Keras 3 writes out to make masks of. We make masks as layers do, where they are
/// used: these are passed over.
const MASK_OPERATIONS: [&str; 4] = ["NotEqual", "Any", "LogicalOr", "LogicalAnd"];

/// A functional model's graph.
#[derive(Debug)]
pub(super) struct Wiring<'a> {
    /// The entries of its InputLayers, in the order of its inputs.
    pub(super) inputs: Vec<usize>,
    /// What it gives.
    pub(super) outputs: Vec<Source>,
    /// Each call behind those that it needs.
    pub(super) calls: Vec<WiredCall<'a>>,
}

/// A call with its sources.
#[derive(Debug)]
pub(super) struct WiredCall<'a> {
    pub(super) entry: usize,
    /// Which of the entry's calls.
    pub(super) node: usize,
    pub(super) sources: Vec<Source>,
    pub(super) arguments: Arguments<'a>,
    /// Its JSON pointer.
    pub(super) place: String,
}

/// A tensor: of an entry, its call, and that call's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    pub(super) entry: usize,
    pub(super) node: usize,
    pub(super) tensor: usize,
}

impl<'a> Wiring<'a> {
    /// Reads the wiring of these entries, which stand below `model`, the model's options.
    pub(super) fn read(
        entries: &[Entry<'a>],
        model: &mut Fields<'a>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut found = Problems::new();
        let names = Names::of(entries, &mut found);
        let mut calls = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            if found.is_full() {
                break;
            }
            if entry.class != "InputLayer" && !makes_mask(entry) {
                read_calls(number, entry, &names, &mut calls, &mut found);
            }
        }
        let inputs = names.ends(model, "input_layers", &mut found);
        let outputs = names.ends(model, "output_layers", &mut found);
        let inputs: Vec<usize> = inputs.into_iter().map(|source| source.entry).collect();
        check_inputs(entries, &inputs, &mut found);
        let calls = if found.is_empty() { in_order(entries, calls, &mut found) } else { calls };
        let is_fine = found.is_empty();
        problems.extend("", &found);
        is_fine.then_some(Self { inputs, outputs, calls })
    }
}

/// Entries by name, and how often each is called.
struct Names<'e> {
    entries: BTreeMap<&'e str, usize>,
    /// An InputLayer counts as called once.
    calls: Vec<usize>,
    /// Whether each makes a mask.
    are_masks: Vec<bool>,
}

impl<'e> Names<'e> {
    fn of(entries: &'e [Entry<'_>], problems: &mut Problems) -> Self {
        let mut names = BTreeMap::new();
        let mut calls = Vec::with_capacity(entries.len());
        for (number, entry) in entries.iter().enumerate() {
            if names.insert(entry.name.as_str(), number).is_some() {
                let place = format!("{}/name", entry.config_place());
                problems.push(place, format!("another layer is named {:?}, too", entry.name));
            }
            calls.push(match entry.inbound.and_then(Value::as_array) {
                _ if entry.class == "InputLayer" => 1,
                Some(inbound) => inbound.len(),
                None => 0,
            });
        }
        let are_masks = entries.iter().map(makes_mask).collect();
        Self { entries: names, calls, are_masks }
    }

    /// The tensor that a reference means; else what is wrong with it.
    fn source(&self, reference: Reference<'_>) -> Result<Source, String> {
        let Reference { layer, node, tensor } = reference;
        let Some(&entry) = self.entries.get(layer) else {
            let layer: String = layer.chars().take(80).collect();
            return Err(format!("no layer is named {layer:?}"));
        };
        let calls = self.calls[entry];
        if node >= calls {
            return Err(format!("layer {layer:?} has {calls} calls, so there is no call {node}"));
        }
        Ok(Source { entry, node, tensor })
    }

    /// The value that a reference means; a mask is none.
    fn value(&self, reference: Reference<'_>) -> Result<Source, String> {
        let source = self.source(reference)?;
        if self.are_masks[source.entry] {
            let layer = reference.layer;
            return Err(format!("{layer:?} makes a mask, and is supported as a mask alone"));
        }
        Ok(source)
    }

    /// Whether all of these are masks.
    fn check_masks(&self, masks: &[Reference<'_>]) -> Result<(), String> {
        for mask in masks {
            if !self.are_masks[self.source(*mask)?.entry] {
                return Err(format!(
                    "{:?} is given as a mask; only masks that Embedding and Masking make are \
                     supported",
                    mask.layer
                ));
            }
        }
        Ok(())
    }

    /// The model's inputs or outputs: a list of references, one alone, or an object of them.
    fn ends(&self, model: &mut Fields<'_>, key: &str, problems: &mut Problems) -> Vec<Source> {
        let place = model.at(key);
        let values: Vec<&Value> = match model.value(key) {
            Some(value) if Reference::read(value).is_some() => vec![value],
            Some(Value::Array(values)) if !values.is_empty() => values.iter().collect(),
            Some(Value::Object(values)) if !values.is_empty() => values.values().collect(),
            other => {
                let found = other.map_or_else(|| "missing".to_owned(), shown);
                problems.push(place, format!("must list tensors, but it is {found}"));
                return Vec::new();
            }
        };
        let mut ends = Vec::new();
        for (i, value) in values.into_iter().enumerate() {
            let source = match Reference::read(value) {
                Some(reference) => self.value(reference),
                None => Err(format!("must be [layer, node, tensor], not {}", shown(value))),
            };
            match source {
                Ok(source) => ends.push(source),
                Err(text) => problems.push(format!("{place}/{i}"), text),
            }
        }
        ends
    }
}

fn makes_mask(entry: &Entry<'_>) -> bool {
    MASK_OPERATIONS.contains(&entry.class)
}

fn read_calls<'a>(
    number: usize,
    entry: &Entry<'a>,
    names: &Names<'_>,
    calls: &mut Vec<WiredCall<'a>>,
    problems: &mut Problems,
) {
    let place = format!("{}/inbound_nodes", entry.place);
    let inbound = match entry.inbound.map(Value::as_array) {
        Some(Some(inbound)) if !inbound.is_empty() => inbound,
        _ => {
            problems.push(place, "must list the layer's calls; a layer without one is of no use");
            return;
        }
    };
    for (node, call) in inbound.iter().enumerate() {
        let place = format!("{place}/{node}");
        let read = Arguments::read(call).and_then(|arguments| {
            names.check_masks(&arguments.masks)?;
            let sources = arguments.tensors.iter().map(|&tensor| names.value(tensor));
            Ok((sources.collect::<Result<Vec<_>, _>>()?, arguments))
        });
        if calls.len() == APPLICATIONS_MAX {
            let text = format!("there are more than {APPLICATIONS_MAX} calls of layers");
            problems.push(place, text);
            return;
        }
        match read {
            Ok((sources, arguments)) => {
                calls.push(WiredCall { entry: number, node, sources, arguments, place });
            }
            Err(text) => problems.push(place, text),
        }
    }
}

/// The model's inputs must be all its InputLayers, each once.
fn check_inputs(entries: &[Entry<'_>], inputs: &[usize], problems: &mut Problems) {
    let mut counts = vec![0_usize; entries.len()];
    inputs.iter().for_each(|&input| counts[input] += 1);
    for (entry, times) in entries.iter().zip(counts) {
        let is_input = entry.class == "InputLayer";
        if is_input && times != 1 && problems.is_empty() {
            let text = format!("is {times} times among the model's input_layers, not once");
            problems.push(entry.place.clone(), text);
        }
        if !is_input && times > 0 {
            problems.push(entry.place.clone(), "is an input of the model, but no InputLayer");
        }
    }
}

/// Sorts the calls so that each stands behind those that it needs, by entry and node where there is
/// a choice. Source: A. Kahn, *Topological Sorting of Large Networks*, 1962.
fn in_order<'a>(
    entries: &[Entry<'_>],
    calls: Vec<WiredCall<'a>>,
    problems: &mut Problems,
) -> Vec<WiredCall<'a>> {
    let number_of: BTreeMap<(usize, usize), usize> =
        calls.iter().enumerate().map(|(number, call)| ((call.entry, call.node), number)).collect();
    let mut needs_left = vec![0_usize; calls.len()];
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); calls.len()];
    for (number, call) in calls.iter().enumerate() {
        for source in &call.sources {
            if let Some(&maker) = number_of.get(&(source.entry, source.node)) {
                needs_left[number] += 1;
                needed_by[maker].push(number);
            }
        }
    }
    let mut ready: BTreeSet<usize> =
        (0..calls.len()).filter(|&number| needs_left[number] == 0).collect();
    let mut order = Vec::with_capacity(calls.len());
    while let Some(number) = ready.pop_first() {
        order.push(number);
        for &user in &needed_by[number] {
            needs_left[user] -= 1;
            if needs_left[user] == 0 {
                ready.insert(user);
            }
        }
    }
    if order.len() < calls.len() {
        let stuck = (0..calls.len()).find(|&number| needs_left[number] > 0);
        let call = &calls[stuck.expect("a call that was not ordered waits for others")];
        let name = &entries[call.entry].name;
        let text =
            format!("the calls form a cycle: {name:?} waits for its own output, or for such");
        problems.push(call.place.clone(), text);
        return Vec::new();
    }
    let mut calls: Vec<Option<WiredCall<'a>>> = calls.into_iter().map(Some).collect();
    order.into_iter().filter_map(|number| calls[number].take()).collect()
}
