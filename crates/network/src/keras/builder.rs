//! Applies a model's entries one after another to values of known shapes, nested models included,
//! and gathers what comes of it: layers, calls, values.

use std::collections::BTreeMap;

use arrowhop_types::Problems;
use serde_json::Value;

use super::arguments::Arguments;
use super::entry::Entry;
use super::model::{Kind, Model, Stated};
use super::read::{Context, Fitted, read_layer};
use super::wiring::{Source, Wiring};
use super::{ELEMENTS_MAX, elements, known};
use crate::fields::Fields;
use crate::graph::{Graph, Input, Output};
use crate::layer::{Call, Layer, MaskRule, Operation, Shape};

/// Entries that are applied, those of shared nested models each time.
pub(super) const APPLICATIONS_MAX: usize = 1 << 14;

/// The number of a value; `None` where problems leave it unknown.
type Wire = Option<usize>;

/// Collects a graph.
pub(super) struct Builder {
    keras_major: u32,
    problems: Problems,
    inputs: Vec<Input>,
    leaves: Vec<Leaf>,
    /// The leaf of an entry, by the entries' numbers from the outermost model on.
    leaf_of: BTreeMap<Vec<usize>, usize>,
    /// Their layer is the leaf's number until the end.
    calls: Vec<Call>,
    values: Vec<Made>,
    outputs: Vec<Output>,
    applications: usize,
}

/// A layer that is no model.
struct Leaf {
    /// The entries' numbers from the outermost model on: their order is Keras's.
    path: Vec<usize>,
    /// `None` where it could not be read.
    layer: Option<Layer>,
}

/// A value, as it is known while reading.
struct Made {
    shape: Shape,
    is_masked: bool,
    /// Its layer's name.
    by: String,
}

/// What a model's layers inherit.
#[derive(Clone)]
struct Scope {
    path: Vec<usize>,
    /// Before the layers' names.
    prefix: String,
    is_trainable: bool,
    infers: bool,
}

impl Scope {
    fn within(&self, index: usize, name: &str, is_trainable: bool, infers: bool) -> Self {
        let mut path = self.path.clone();
        path.push(index);
        let prefix = format!("{}{name}/", self.prefix);
        Self {
            path,
            prefix,
            is_trainable: self.is_trainable && is_trainable,
            infers: self.infers || infers,
        }
    }
}

impl Builder {
    pub(super) fn new(keras_major: u32) -> Self {
        Self {
            keras_major,
            problems: Problems::new(),
            inputs: Vec::new(),
            leaves: Vec::new(),
            leaf_of: BTreeMap::new(),
            calls: Vec::new(),
            values: Vec::new(),
            outputs: Vec::new(),
            applications: 0,
        }
    }

    /// Reads the outermost model.
    pub(super) fn top_model(&mut self, class: &str, config: &Value) {
        let Some(model) = Model::read(class, config, "/config", &mut self.problems) else { return };
        let wires: Vec<Wire> = model
            .inputs(&mut self.problems)
            .into_iter()
            .map(|Stated { name, place, sizes }| {
                let shape = known(&sizes?, &place, &mut self.problems)?;
                self.inputs.push(Input { name: name.clone(), shape: shape.clone() });
                self.values.push(Made { shape, is_masked: false, by: name });
                Some(self.values.len() - 1)
            })
            .collect();
        let scope = Scope {
            path: Vec::new(),
            prefix: String::new(),
            is_trainable: model.is_trainable,
            infers: false,
        };
        for wire in self.apply_model(&model, &scope, wires, "/config") {
            let Some(value) = wire else { continue };
            let Made { shape, is_masked, by } = &self.values[value];
            let (name, shape) = (by.clone(), shape.clone());
            let hides_steps = *is_masked && shape.len() > 1;
            self.outputs.push(Output { name, value, shape, gives_logits: false, hides_steps });
        }
        if self.calls.is_empty() && self.problems.is_empty() {
            self.problems.push("/config", "there is only an input");
        }
    }

    /// The graph, when there were no problems.
    pub(super) fn finish(mut self, problems: &mut Problems) -> Option<Graph> {
        if self.problems.is_empty() {
            self.check_parameters();
        }
        problems.extend("", &self.problems);
        if !self.problems.is_empty() {
            return None;
        }
        let mut order: Vec<usize> = (0..self.leaves.len()).collect();
        order.sort_by(|&a, &b| self.leaves[a].path.cmp(&self.leaves[b].path));
        let mut place = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            place[old] = new;
        }
        for call in &mut self.calls {
            call.layer = place[call.layer];
        }
        let mut layers: Vec<Option<Layer>> =
            self.leaves.into_iter().map(|leaf| leaf.layer).collect();
        let layers = order.into_iter().filter_map(|leaf| layers[leaf].take()).collect();
        Some(Graph { inputs: self.inputs, layers, calls: self.calls, outputs: self.outputs })
    }

    fn check_parameters(&mut self) {
        let layers = self.leaves.iter().filter_map(|leaf| leaf.layer.as_ref());
        let weights = layers.flat_map(|layer| &layer.weights);
        let total = weights
            .map(|weight| elements(&weight.shape))
            .try_fold(0, |sum, size| Some(sum + size?).filter(|&sum: &usize| sum <= ELEMENTS_MAX));
        if total.is_none() {
            self.problems.push("/config", format!("there are more than {ELEMENTS_MAX} parameters"));
        }
    }

    /// Applies a model to its inputs.
    fn apply_model(
        &mut self,
        model: &Model<'_>,
        scope: &Scope,
        inputs: Vec<Wire>,
        place: &str,
    ) -> Vec<Wire> {
        match &model.kind {
            Kind::Sequential { .. } => self.apply_chain(model, scope, inputs, place),
            Kind::Functional(wiring) => self.apply_wiring(model, wiring, scope, inputs, place),
        }
    }

    fn apply_chain(
        &mut self,
        model: &Model<'_>,
        scope: &Scope,
        inputs: Vec<Wire>,
        place: &str,
    ) -> Vec<Wire> {
        let [mut wire] = inputs[..] else {
            let text = format!("a Sequential model takes one input, not {}", inputs.len());
            self.problems.push(place, text);
            return vec![None];
        };
        let mut names = std::collections::BTreeSet::new();
        for (index, entry) in model.entries.iter().enumerate() {
            if self.problems.is_full() {
                break;
            }
            if !names.insert(&entry.name) {
                let place = format!("{}/name", entry.config_place());
                self.problems.push(place, format!("another layer is named {:?}, too", entry.name));
            }
            if entry.class == "InputLayer" {
                if index > 0 {
                    self.problems.push(entry.place.clone(), "an InputLayer can only come first");
                }
                continue;
            }
            let arguments = Arguments::default();
            let made = self.apply(entry, index, scope, &arguments, &entry.place, vec![wire]);
            if made.len() > 1 {
                let text = "gives several outputs, but a Sequential model passes on one";
                self.problems.push(entry.place.clone(), text);
            }
            wire = made.first().copied().flatten();
        }
        vec![wire]
    }

    fn apply_wiring(
        &mut self,
        model: &Model<'_>,
        wiring: &Wiring<'_>,
        scope: &Scope,
        inputs: Vec<Wire>,
        place: &str,
    ) -> Vec<Wire> {
        if inputs.len() != wiring.inputs.len() {
            let (expected, found) = (wiring.inputs.len(), inputs.len());
            self.problems.push(place, format!("the model takes {expected} inputs, not {found}"));
            return vec![None; wiring.outputs.len()];
        }
        let mut made: BTreeMap<(usize, usize), Vec<Wire>> = BTreeMap::new();
        for (&entry, wire) in wiring.inputs.iter().zip(inputs) {
            self.check_nested_input(&model.entries[entry], wire);
            made.insert((entry, 0), vec![wire]);
        }
        for call in &wiring.calls {
            if self.problems.is_full() {
                return vec![None; wiring.outputs.len()];
            }
            let entry = &model.entries[call.entry];
            let sources = call.sources.iter().map(|&source| self.wire(&made, source, &call.place));
            let wires: Result<Vec<Wire>, (String, String)> = sources.collect();
            let outputs = match wires {
                Ok(wires) => {
                    self.apply(entry, call.entry, scope, &call.arguments, &call.place, wires)
                }
                Err((place, text)) => {
                    self.problems.push(place, text);
                    vec![None]
                }
            };
            made.insert((call.entry, call.node), outputs);
        }
        let outputs = wiring
            .outputs
            .iter()
            .map(|&source| self.wire(&made, source, &format!("{place}/output_layers")));
        let outputs: Vec<_> = outputs.collect();
        outputs
            .into_iter()
            .map(|wire| {
                wire.unwrap_or_else(|(place, text)| {
                    self.problems.push(place, text);
                    None
                })
            })
            .collect()
    }

    /// The value of a source; else where and what is wrong.
    fn wire(
        &self,
        made: &BTreeMap<(usize, usize), Vec<Wire>>,
        source: Source,
        place: &str,
    ) -> Result<Wire, (String, String)> {
        let Some(outputs) = made.get(&(source.entry, source.node)) else { return Ok(None) };
        match outputs.get(source.tensor) {
            Some(wire) => Ok(*wire),
            None if outputs.contains(&None) => Ok(None),
            None => {
                let (count, tensor) = (outputs.len(), source.tensor);
                let text = format!("its input has {count} outputs, so there is no output {tensor}");
                Err((place.to_owned(), text))
            }
        }
    }

    /// A nested model may be called only on values of the shape that it was made for.
    fn check_nested_input(&mut self, entry: &Entry<'_>, wire: Wire) {
        let Stated { place, sizes, .. } = Stated::of_layer(entry, &mut self.problems);
        let (Some(sizes), Some(value)) = (sizes, wire) else { return };
        let shape = &self.values[value].shape;
        let fits = sizes.len() == shape.len()
            && sizes.iter().zip(shape).all(|(size, found)| size.is_none_or(|size| size == *found));
        if !fits {
            let text = format!("is called on a value of shape {shape:?}, which does not fit");
            self.problems.push(place, text);
        }
    }

    /// Applies one entry, layer or nested model; its outputs.
    fn apply(
        &mut self,
        entry: &Entry<'_>,
        index: usize,
        scope: &Scope,
        arguments: &Arguments<'_>,
        place: &str,
        inputs: Vec<Wire>,
    ) -> Vec<Wire> {
        if self.applications >= APPLICATIONS_MAX {
            if self.applications < usize::MAX {
                let text = format!("there are more than {APPLICATIONS_MAX} calls of layers");
                self.problems.push(place, text);
            }
            self.applications = usize::MAX;
            return vec![None];
        }
        self.applications += 1;
        if !entry.is_model() {
            return self.apply_layer(entry, index, scope, arguments, place, &inputs);
        }
        let config_place = entry.config_place();
        let model = Model::read(entry.class, entry.config, &config_place, &mut self.problems);
        let Some(model) = model else { return vec![None] };
        self.applications = self.applications.saturating_add(model.entries.len());
        let scope = scope.within(index, &entry.name, model.is_trainable, arguments.infers);
        self.apply_model(&model, &scope, inputs, &config_place)
    }

    fn apply_layer(
        &mut self,
        entry: &Entry<'_>,
        index: usize,
        scope: &Scope,
        arguments: &Arguments<'_>,
        place: &str,
        inputs: &[Wire],
    ) -> Vec<Wire> {
        let within = scope.within(index, &entry.name, true, arguments.infers);
        let known_leaf = self.leaf_of.get(&within.path).copied();
        if known_leaf.is_some_and(|leaf| self.leaves[leaf].layer.is_none()) {
            return vec![None];
        }
        let shapes: Option<Vec<Shape>> =
            inputs.iter().map(|wire| Some(self.values[(*wire)?].shape.clone())).collect();
        let fitted = self.fit(entry, &within, shapes.as_deref());
        let leaf = known_leaf.unwrap_or_else(|| {
            self.leaf_of.insert(within.path.clone(), self.leaves.len());
            let layer = fitted.as_ref().map(|fitted| Layer {
                name: within.prefix.trim_end_matches('/').to_owned(),
                class: entry.class.to_owned(),
                pointer: entry.place.clone(),
                weights: fitted.weights.clone(),
            });
            self.leaves.push(Leaf { path: within.path.clone(), layer });
            self.leaves.len() - 1
        });
        let wires: Option<Vec<usize>> = inputs.iter().copied().collect();
        let (Some(mut fitted), Some(wires)) = (fitted, wires) else {
            return vec![None];
        };
        let layer = self.leaves[leaf].layer.as_ref();
        if layer.is_some_and(|layer| layer.weights != fitted.weights) {
            let text = format!(
                "the layer is shared, but its inputs of shapes {:?} need other weights than those \
                 before",
                shapes.unwrap_or_default()
            );
            self.problems.push(place, text);
            return vec![None];
        }
        if arguments.is_causal {
            match &mut fitted.operation {
                Operation::MultiHeadAttention(attention) => attention.is_causal = true,
                _ => self.problems.push(place, "use_causal_mask means nothing to this layer"),
            }
        }
        if within.infers {
            fitted.operation.infer_always();
        }
        if !arguments.masks.is_empty() {
            if !wires.first().is_some_and(|wire| self.values[*wire].is_masked) {
                let text = "is given a mask, but its input has none; only masks that Embedding and \
                            Masking make are supported";
                self.problems.push(place, text);
            }
            fitted.operation.heed_mask();
        }
        self.record(leaf, fitted, wires)
    }

    /// Reads a layer's options on inputs of these shapes.
    fn fit(
        &mut self,
        entry: &Entry<'_>,
        scope: &Scope,
        shapes: Option<&[Shape]>,
    ) -> Option<Fitted> {
        let mut fields = Fields::of(entry.config, entry.config_place(), &mut self.problems)?;
        let context = Context { keras_major: self.keras_major, is_trainable: scope.is_trainable };
        let fitted = read_layer(entry.class, &mut fields, shapes, &context);
        let is_fine = fields.finish(&mut self.problems);
        fitted.filter(|_| is_fine)
    }

    /// Adds a call and the values that it makes.
    fn record(&mut self, leaf: usize, fitted: Fitted, inputs: Vec<usize>) -> Vec<Wire> {
        let is_masked = match fitted.mask {
            MaskRule::Pass => self.values[inputs[0]].is_masked,
            MaskRule::All | MaskRule::Join => {
                inputs.iter().any(|&input| self.values[input].is_masked)
            }
            MaskRule::Any => inputs.iter().all(|&input| self.values[input].is_masked),
            MaskRule::Make => true,
            MaskRule::Consume | MaskRule::Drop => false,
        };
        let by = self.leaves[leaf].layer.as_ref().map(|layer| layer.name.clone());
        let by = by.unwrap_or_default();
        let first = self.values.len();
        for shape in &fitted.outputs {
            self.values.push(Made { shape: shape.clone(), is_masked, by: by.clone() });
        }
        self.calls.push(Call {
            layer: leaf,
            operation: fitted.operation,
            activation: fitted.activation,
            inputs,
            outputs: fitted.outputs,
            macs: fitted.macs,
            mask: fitted.mask,
        });
        (first..self.values.len()).map(Some).collect()
    }
}
