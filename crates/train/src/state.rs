//! A model's state as it travels: weights, optimizer slots and counters in one safetensors file.
//!
//! ```text
//! __metadata__                        {"arrowhop": "{\"format\":1, …}"}, that key alone
//! optimizer.m.000.conv2d/kernel       f32, most often Keras's shape; one per slot and trainable array
//! optimizer.momentum_product          f32, of no dimension; one per number kept for all arrays
//! weights.000.conv2d/kernel           f32, Keras's shape; one per array
//! ```
//!
//! The number in a name is the array's place in Keras's `get_weights()` order, so that the names'
//! order is the arrays' order. Equal states have equal bytes. A reader takes nothing on trust: not
//! the format, the architecture, the optimizer, the names, the shapes, the sizes, nor the numbers.

use std::borrow::Cow;
use std::collections::HashMap;

use arrowhop_network::NetworkSpec;
use arrowhop_types::{Optimizer, Version};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, View};
use serde_json::{Value, json};

use crate::error::TrainError;
use crate::optimizer::{self, Slot, Slots};
use crate::task::Task;

/// The one metadata key.
const HEADER_KEY: &str = "arrowhop";
/// The format that is written, and the only one that is read.
const FORMAT: u64 = 1;
/// Fields of the header.
const HEADER_FIELDS: [&str; 5] = ["format", "optimizer", "step", "version", "architecture"];
/// Header bytes allowed for the file and for each of its tensors; a name has at most 300 or so,
/// and may be escaped.
const HEADER_BYTES_MAX: (usize, usize) = (4096, 4096);

/// A model between two visits.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// In Keras's `get_weights()` order and layout.
    pub weights: Vec<Vec<f32>>,
    /// For each trainable array in order, the optimizer's slots.
    pub(crate) slots: Vec<Slots>,
    /// What the optimizer keeps for all arrays together.
    pub(crate) scalars: Vec<f32>,
    /// Batches that the optimizer has seen.
    pub step: u64,
    /// Training visits so far.
    pub version: Version,
}

/// The encoded state of a freshly initialised model: version 0.
///
/// # Errors
/// When it cannot be written.
pub fn initial_state(task: &Task) -> Result<Vec<u8>, TrainError> {
    State::initial(task).encode(task)
}

/// One tensor of the file.
#[derive(Debug)]
struct Entry<'a> {
    values: &'a [f32],
    shape: &'a [usize],
}

impl View for Entry<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        for (bytes, value) in bytes.chunks_exact_mut(4).zip(self.values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}

impl State {
    /// Fresh weights and an optimizer that has seen nothing.
    #[must_use]
    pub fn initial(task: &Task) -> Self {
        let weights = task.network.initial_weights(task.seed, task.model);
        Self::fresh(&task.network, &task.config.optimizer, weights)
    }

    /// These weights, and an optimizer that has seen nothing.
    pub(crate) fn fresh(
        network: &NetworkSpec,
        optimizer: &Optimizer,
        weights: Vec<Vec<f32>>,
    ) -> Self {
        let (slots, scalars) = fresh_optimizer(network, optimizer);
        Self { weights, slots, scalars, step: 0, version: Version(0) }
    }

    /// Puts the weights' moving averages, where the optimizer keeps them, in place of the weights:
    /// the model as it is used once it is trained. Before the first step there are none.
    pub fn use_averages(&mut self, task: &Task) {
        if task.config.optimizer.averaging.is_none() || self.step == 0 {
            return;
        }
        let specs = task.network.weights().into_iter();
        let trainable = self.weights.iter_mut().zip(specs).filter(|(_, spec)| spec.trainable);
        for ((weights, _), slots) in trainable.zip(&self.slots) {
            weights.clone_from(slots.last().expect("averaging keeps a slot"));
        }
    }

    /// The file's bytes: the same for the same state.
    ///
    /// # Errors
    /// When there are too many arrays for the format.
    pub fn encode(&self, task: &Task) -> Result<Vec<u8>, TrainError> {
        let specs = task.network.weights();
        let mut entries = Vec::new();
        for (i, (spec, values)) in specs.iter().zip(&self.weights).enumerate() {
            entries.push((weight_name(i, &spec.name), Entry { values, shape: &spec.shape }));
        }
        let kept = Kept::of(task);
        for (array, slots) in kept.arrays.iter().zip(&self.slots) {
            for (slot, values) in array.slots.iter().zip(slots) {
                let entry = Entry { values, shape: &slot.shape };
                entries.push((slot_name(slot.name, array.place, &array.name), entry));
            }
        }
        for (name, value) in kept.scalars.iter().zip(&self.scalars) {
            let entry = Entry { values: std::slice::from_ref(value), shape: &[] };
            entries.push((scalar_name(name), entry));
        }
        let step = if task.reset_optimizer_each_visit { 0 } else { self.step };
        let header = json!({
            "format": FORMAT,
            "optimizer": task.config.optimizer.name(),
            "step": step,
            "version": self.version.0,
            "architecture": architecture(task),
        });
        let metadata = HashMap::from([(HEADER_KEY.to_owned(), header.to_string())]);
        safetensors::serialize(entries, Some(metadata)).map_err(TrainError::UnwritableState)
    }

    /// Reads a state of this task.
    ///
    /// # Errors
    /// When the bytes are anything but a state that this task's [`State::encode`] could have made.
    pub fn decode(task: &Task, bytes: &[u8]) -> Result<Self, TrainError> {
        let specs = task.network.weights();
        let kept = Kept::of(task);
        let tensors = specs.len() + kept.tensors();
        check_size(bytes, Self::data_bytes(task), tensors)?;
        let (header_bytes, metadata) =
            SafeTensors::read_metadata(bytes).map_err(TrainError::UnreadableState)?;
        let (step, version) = read_header(task, &metadata)?;
        if metadata.offset_keys().len() != tensors {
            let found = metadata.offset_keys().len();
            return Err(invalid("tensors", format!("there are {found}, not {tensors}")));
        }
        let data = &bytes[8 + header_bytes..];
        let mut weights = Vec::with_capacity(specs.len());
        for (i, spec) in specs.iter().enumerate() {
            weights.push(read(&metadata, data, weight_name(i, &spec.name), &spec.shape)?);
        }
        let (mut slots, mut scalars) = fresh_optimizer(&task.network, &task.config.optimizer);
        for (array, slots) in kept.arrays.iter().zip(&mut slots) {
            for (slot, values) in array.slots.iter().zip(slots) {
                let name = slot_name(slot.name, array.place, &array.name);
                *values = read(&metadata, data, name, &slot.shape)?;
            }
        }
        for (name, value) in kept.scalars.iter().zip(&mut scalars) {
            *value = read(&metadata, data, scalar_name(name), &[])?[0];
        }
        Ok(Self { weights, slots, scalars, step, version: Version(version) })
    }

    /// Bytes of an encoded state's tensors.
    pub(crate) fn data_bytes(task: &Task) -> u64 {
        let kept = if task.reset_optimizer_each_visit { 0 } else { Self::optimizer_bytes(task) };
        4 * task.network.parameters() + kept
    }

    /// Bytes of all that the optimizer keeps.
    pub(crate) fn optimizer_bytes(task: &Task) -> u64 {
        let optimizer = &task.config.optimizer;
        let (slots, scalars) = (slots(&task.network, optimizer), optimizer::scalars(optimizer));
        let elements: usize = slots.iter().flat_map(|array| &array.slots).map(Slot::elements).sum();
        4 * (elements + scalars.len()) as u64
    }

    /// Whether every number is finite.
    pub(crate) fn is_finite(&self) -> bool {
        let slots = self.slots.iter().flatten();
        self.weights.iter().chain(slots).flatten().all(|value| value.is_finite())
    }
}

/// The slots of a trainable weight array, which has this place and this name among all.
struct ArraySlots {
    place: usize,
    name: String,
    slots: Vec<Slot>,
}

/// What of the optimizer hops with the weights.
struct Kept {
    arrays: Vec<ArraySlots>,
    scalars: Vec<&'static str>,
}

impl Kept {
    fn of(task: &Task) -> Self {
        if task.reset_optimizer_each_visit {
            return Self { arrays: Vec::new(), scalars: Vec::new() };
        }
        let optimizer = &task.config.optimizer;
        let scalars = optimizer::scalars(optimizer).into_iter();
        Self {
            arrays: slots(&task.network, optimizer),
            scalars: scalars.map(|(name, _)| name).collect(),
        }
    }

    fn tensors(&self) -> usize {
        self.arrays.iter().map(|array| array.slots.len()).sum::<usize>() + self.scalars.len()
    }
}

/// The slots of every trainable weight array.
fn slots(network: &NetworkSpec, optimizer: &Optimizer) -> Vec<ArraySlots> {
    let specs = network.weights().into_iter().enumerate();
    let trainable = specs.filter(|(_, spec)| spec.trainable);
    let slots = trainable.map(|(place, spec)| {
        let slots = optimizer::slots(optimizer, &spec.shape);
        ArraySlots { place, name: spec.name, slots }
    });
    slots.collect()
}

/// What an optimizer keeps before its first step.
fn fresh_optimizer(network: &NetworkSpec, optimizer: &Optimizer) -> (Vec<Slots>, Vec<f32>) {
    let fresh = |slot: &Slot| vec![slot.initial; slot.elements()];
    let arrays = slots(network, optimizer);
    let arrays = arrays.iter().map(|array| array.slots.iter().map(fresh).collect());
    let scalars = optimizer::scalars(optimizer).into_iter();
    (arrays.collect(), scalars.map(|(_, value)| value).collect())
}

fn weight_name(i: usize, name: &str) -> String {
    format!("weights.{i:03}.{name}")
}

fn slot_name(slot: &str, i: usize, name: &str) -> String {
    format!("optimizer.{slot}.{i:03}.{name}")
}

fn scalar_name(scalar: &str) -> String {
    format!("optimizer.{scalar}")
}

/// Digest of the network's definition.
fn architecture(task: &Task) -> String {
    blake3::hash(task.network.keras_json().as_bytes()).to_hex().to_string()
}

fn invalid(place: impl Into<String>, problem: impl Into<String>) -> TrainError {
    TrainError::InvalidState { place: place.into(), problem: problem.into() }
}

/// Refuses a file of another size before anything is parsed.
fn check_size(bytes: &[u8], data: u64, tensors: usize) -> Result<(), TrainError> {
    let (base, each) = HEADER_BYTES_MAX;
    let header = bytes.len() as u64;
    let header = header.checked_sub(data).and_then(|rest| rest.checked_sub(8));
    match header {
        Some(header) if header <= (base + each * tensors) as u64 => Ok(()),
        _ => Err(invalid(
            "file",
            format!("has {} bytes, of which {data} should be tensors", bytes.len()),
        )),
    }
}

/// Checks the header against the task; gives the step and the version.
fn read_header(task: &Task, metadata: &Metadata) -> Result<(u64, u64), TrainError> {
    let entries = metadata.metadata().as_ref();
    let text = entries.filter(|entries| entries.len() == 1).and_then(|map| map.get(HEADER_KEY));
    let text = text.ok_or_else(|| {
        invalid("__metadata__", format!("must have {HEADER_KEY:?} and nothing else"))
    })?;
    let header: Value = serde_json::from_str(text)
        .map_err(|error| invalid(HEADER_KEY, format!("is not JSON: {error}")))?;
    let fields = header.as_object().ok_or_else(|| invalid(HEADER_KEY, "is not an object"))?;
    if fields.get("format") != Some(&json!(FORMAT)) {
        return Err(invalid("format", format!("only {FORMAT} is known; the state is of another")));
    }
    if let Some(unknown) = fields.keys().find(|key| !HEADER_FIELDS.contains(&key.as_str())) {
        return Err(invalid(unknown, "is not a known field"));
    }
    let expected = [
        ("optimizer", task.config.optimizer.name().to_owned()),
        ("architecture", architecture(task)),
    ];
    for (field, expected) in expected {
        if fields.get(field).and_then(Value::as_str) != Some(expected.as_str()) {
            return Err(invalid(field, format!("is not {expected}")));
        }
    }
    let number = |field: &str| {
        let value = fields.get(field).and_then(Value::as_u64);
        value.ok_or_else(|| invalid(field, "is not a whole number"))
    };
    Ok((number("step")?, number("version")?))
}

/// Reads one tensor, which must be there with this shape and hold finite numbers.
fn read(
    metadata: &Metadata,
    data: &[u8],
    name: String,
    shape: &[usize],
) -> Result<Vec<f32>, TrainError> {
    let Some(info) = metadata.info(&name) else {
        return Err(invalid(name, "is missing"));
    };
    if info.dtype != Dtype::F32 || info.shape != shape {
        let problem =
            format!("is {:?} of shape {:?}, not F32 of {shape:?}", info.dtype, info.shape);
        return Err(invalid(name, problem));
    }
    let (start, end) = info.data_offsets;
    let values: Vec<f32> = data[start..end]
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(i) => Err(invalid(name, format!("element {i} is {}", values[i]))),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{adam, classifier};
    use arrowhop_types::Optimizer;
    use arrowhop_types::optimizer::{Averaging, Method, Semantics};
    use safetensors::tensor::TensorView;

    fn task() -> Task {
        classifier(adam(0.001), 16, 1)
    }

    /// A state whose numbers all differ.
    fn state(task: &Task) -> State {
        let mut state = State::initial(task);
        let mut value = 0.0;
        let slots = state.slots.iter_mut().flatten();
        let arrays = state.weights.iter_mut().chain(slots).chain([&mut state.scalars]);
        for number in arrays.flatten() {
            value += 0.5;
            *number = value;
        }
        State { step: 17, version: Version(4), ..state }
    }

    #[test]
    fn every_optimizer_s_state_comes_back_as_it_was() {
        let both = [Semantics::Legacy, Semantics::Current].into_iter();
        let methods = both.flat_map(|semantics| {
            Method::all(semantics).into_iter().map(move |method| Optimizer::new(method, semantics))
        });
        let averaging = Some(Averaging { momentum: 0.5, overwrite_frequency: None });
        for optimizer in methods.chain([Optimizer { averaging, ..adam(0.1) }]) {
            let task = classifier(optimizer, 16, 1);
            let state = state(&task);
            let bytes = state.encode(&task).unwrap();
            assert_eq!(bytes, state.encode(&task).unwrap());
            assert_eq!(State::decode(&task, &bytes).unwrap(), state);
        }
    }

    #[test]
    fn what_an_optimizer_keeps_starts_and_is_named_as_it_should() {
        let names = |name: &str| {
            let optimizer = Optimizer::named(name, Semantics::Current).unwrap();
            let task = classifier(optimizer, 16, 1);
            let bytes = initial_state(&task).unwrap();
            let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
            let names = metadata.offset_keys().into_iter();
            let kept = names.filter(|name| name.starts_with("optimizer.")).collect::<Vec<_>>();
            (kept, State::decode(&task, &bytes).unwrap())
        };
        let (kept, nadam) = names("nadam");
        assert_eq!(kept.iter().filter(|name| *name == "optimizer.momentum_product").count(), 1);
        assert_eq!((kept.len(), nadam.scalars), (13, vec![1.0]));
        let (kept, adafactor) = names("adafactor");
        assert_eq!(kept[0], "optimizer.by_column.000.hidden/kernel");
        let sizes: Vec<Vec<usize>> =
            adafactor.slots.iter().map(|slots| slots.iter().map(Vec::len).collect()).collect();
        assert_eq!(sizes, [vec![4, 16], vec![16], vec![16], vec![16], vec![16, 3], vec![3]]);
        let (_, ftrl) = names("ftrl");
        assert!(ftrl.slots.iter().all(|slots| slots[0].iter().all(|sum| *sum == 0.1)));
        assert!(ftrl.slots.iter().all(|slots| slots[1].iter().all(|linear| *linear == 0.0)));
    }

    #[test]
    fn averages_stand_in_for_the_weights_that_learn_once_there_are_any() {
        let averaging = Some(Averaging { momentum: 0.5, overwrite_frequency: None });
        let task = classifier(Optimizer { averaging, ..adam(0.1) }, 16, 1);
        let trained = state(&task);
        let mut used = trained.clone();
        used.use_averages(&task);
        let averages: Vec<_> = trained.slots.iter().map(|slots| &slots[2]).collect();
        let kept: Vec<_> = used.weights.iter().collect();
        // The normalising layer's moving statistics do not learn.
        let statistics = [&trained.weights[4], &trained.weights[5]];
        assert_eq!(kept[..4], averages[..4]);
        assert_eq!(kept[4..6], statistics);
        assert_eq!(kept[6..], averages[4..]);
        let fresh = State::initial(&task);
        let mut used = fresh.clone();
        used.use_averages(&task);
        assert_eq!(used, fresh);
    }

    #[test]
    fn tensors_lie_in_the_order_of_their_names() {
        let bytes = initial_state(&task()).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let names = metadata.offset_keys();
        assert_eq!(names[0], "optimizer.m.000.hidden/kernel");
        assert_eq!(names[6..8], ["optimizer.v.000.hidden/kernel", "optimizer.v.001.hidden/bias"]);
        assert_eq!(names[16], "weights.004.norm/moving_mean");
        assert_eq!(names.len(), 20);
    }

    #[test]
    fn a_reset_optimizer_does_not_travel() {
        let mut task = task();
        task.reset_optimizer_each_visit = true;
        let state = state(&task);
        let decoded = State::decode(&task, &state.encode(&task).unwrap()).unwrap();
        assert_eq!((decoded.step, decoded.version), (0, Version(4)));
        assert!(decoded.slots.iter().flatten().flatten().all(|value| *value == 0.0));
        assert_eq!(decoded.weights, state.weights);
    }

    /// Reads a file whose header text and tensors were changed.
    fn decode_tampered(
        tamper: impl Fn(&mut Value, &mut Vec<(String, Vec<usize>, Vec<u8>)>),
    ) -> String {
        let task = task();
        let bytes = state(&task).encode(&task).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let text = metadata.metadata().as_ref().unwrap().get(HEADER_KEY).unwrap();
        let mut header: Value = serde_json::from_str(text).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> = tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
            .collect();
        tamper(&mut header, &mut tensors);
        let views = tensors.iter().map(|(name, shape, data)| {
            (name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
        });
        let metadata = HashMap::from([(HEADER_KEY.to_owned(), header.to_string())]);
        let bytes = safetensors::serialize(views, Some(metadata)).unwrap();
        match State::decode(&task, &bytes) {
            Ok(_) => "accepted".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn whatever_was_tampered_with_is_named() {
        assert_eq!(decode_tampered(|_, _| {}), "accepted");
        let header = |field: &'static str, value: Value| {
            decode_tampered(move |header, _| header[field] = value.clone())
        };
        assert!(header("format", json!(2)).starts_with("state: format: only 1 is known"));
        assert_eq!(header("extra", json!(1)), "state: extra: is not a known field");
        assert_eq!(header("optimizer", json!("sgd")), "state: optimizer: is not adam");
        assert!(header("architecture", json!("0")).starts_with("state: architecture: is not"));
        assert_eq!(header("step", json!(-1)), "state: step: is not a whole number");
        assert_eq!(header("version", json!("4")), "state: version: is not a whole number");

        let name = "weights.000.hidden/kernel";
        let tensor = |change: fn(&mut (String, Vec<usize>, Vec<u8>))| {
            decode_tampered(move |_, tensors| {
                change(tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap());
            })
        };
        let renamed = tensor(|tensor| tensor.0.push('s'));
        assert_eq!(renamed, format!("state: {name}: is missing"));
        let turned = tensor(|tensor| tensor.1.reverse());
        assert_eq!(turned, format!("state: {name}: is F32 of shape [16, 4], not F32 of [4, 16]"));
        let not_finite = tensor(|tensor| tensor.2[4..8].copy_from_slice(&f32::NAN.to_le_bytes()));
        assert_eq!(not_finite, format!("state: {name}: element 1 is NaN"));
        let longer = tensor(|tensor| {
            tensor.1 = vec![65];
            tensor.2.extend([0; 4]);
        });
        assert_eq!(longer, format!("state: {name}: is F32 of shape [65], not F32 of [4, 16]"));
        let more = decode_tampered(|_, tensors| tensors.push(("a".into(), vec![0], vec![])));
        assert_eq!(more, "state: tensors: there are 21, not 20");
    }

    #[test]
    fn no_damaged_byte_panics() {
        let task = task();
        let bytes = state(&task).encode(&task).unwrap();
        let mut refused = 0;
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 0x5a;
            refused += usize::from(State::decode(&task, &damaged).is_err());
        }
        assert!(refused > 1000, "only {refused} of {} damages were found", bytes.len());
    }

    #[test]
    fn files_of_another_size_are_refused_unread() {
        let task = task();
        let bytes = state(&task).encode(&task).unwrap();
        for wrong in [&bytes[..200], &[bytes.as_slice(), &[0; 1 << 20]].concat()] {
            let error = State::decode(&task, wrong).unwrap_err();
            assert!(error.to_string().starts_with("state: file: has"), "{error}");
        }
        let error = State::decode(&task, &bytes[..bytes.len() - 1]).unwrap_err();
        assert!(matches!(error, TrainError::UnreadableState(_)), "{error}");
    }
}
