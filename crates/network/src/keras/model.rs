//! A model's options: its list of entries, how they are wired, and what it takes.

use arrowhop_types::Problems;
use serde_json::Value;

use super::entry::Entry;
use super::read_shape;
use super::wiring::Wiring;
use crate::fields::{Fields, shown};

/// A longer list of layers is refused before its entries are read; the largest networks of
/// `keras.applications` list about 1,000.
const LAYERS_MAX: usize = 4096;

/// A model's options.
pub(super) struct Model<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) is_trainable: bool,
    pub(super) kind: Kind<'a>,
}

/// How the entries are put together.
pub(super) enum Kind<'a> {
    Sequential { build_shape: Option<(String, &'a Value)> },
    Functional(Wiring<'a>),
}

/// An input that a model states.
pub(super) struct Stated {
    pub(super) name: String,
    /// Where it is stated, or should be.
    pub(super) place: String,
    /// `None` where it has problems; a size may be open.
    pub(super) sizes: Option<Vec<Option<usize>>>,
}

impl<'a> Model<'a> {
    /// Reads a model's options, which stand at `place`, and its list of entries.
    pub(super) fn read(
        class: &str,
        config: &'a Value,
        place: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        if let Value::Array(layers) = config
            && class == "Sequential"
        {
            let entries = read_entries(layers, place, problems)?;
            let kind = Kind::Sequential { build_shape: None };
            return Some(Self { entries, is_trainable: true, kind });
        }
        let mut fields = Fields::of(config, place.to_owned(), problems)?;
        let is_trainable = fields.flag("trainable", true);
        let layers = match fields.value("layers") {
            Some(Value::Array(layers)) => Some(layers),
            Some(other) => {
                fields.problem("layers", format!("must be a list, not {}", shown(other)));
                None
            }
            None => {
                fields.problem("layers", "is missing");
                None
            }
        };
        let entries = layers.and_then(|layers| {
            let mut found = Problems::new();
            let entries = read_entries(layers, &fields.at("layers"), &mut found);
            fields.problems().extend("", &found);
            entries
        });
        let kind = match (class, &entries) {
            ("Sequential", _) => {
                let build_shape = fields.value("build_input_shape");
                let build_shape = build_shape.map(|shape| (fields.at("build_input_shape"), shape));
                Some(Kind::Sequential { build_shape })
            }
            (_, Some(entries)) => {
                let mut found = Problems::new();
                let wiring = Wiring::read(entries, &mut fields, &mut found);
                fields.problems().extend("", &found);
                wiring.map(Kind::Functional)
            }
            (_, None) => None,
        };
        fields.finish(problems);
        Some(Self { entries: entries?, is_trainable, kind: kind? })
    }

    /// What the model takes.
    pub(super) fn inputs(&self, problems: &mut Problems) -> Vec<Stated> {
        match &self.kind {
            Kind::Sequential { build_shape } => {
                let first = &self.entries[0];
                let name = match first.class {
                    "InputLayer" => first.name.clone(),
                    _ => format!("{}_input", first.name),
                };
                let given = stated_shape(first)
                    .or_else(|| build_shape.as_ref().map(|(place, shape)| (place.clone(), *shape)));
                let Some((place, shape)) = given else {
                    let place = format!("{}/batch_input_shape", first.config_place());
                    let text = "is missing: give the first layer an input shape before exporting \
                                the model";
                    problems.push(place.clone(), text);
                    return vec![Stated { name, place, sizes: None }];
                };
                let sizes = read_shape(shape, &place, problems);
                vec![Stated { name, place, sizes }]
            }
            Kind::Functional(wiring) => {
                let entries = wiring.inputs.iter().map(|&entry| &self.entries[entry]);
                entries.map(|entry| Stated::of_layer(entry, problems)).collect()
            }
        }
    }
}

impl Stated {
    /// What an InputLayer states.
    pub(super) fn of_layer(entry: &Entry<'_>, problems: &mut Problems) -> Self {
        let name = entry.name.clone();
        let Some((place, shape)) = stated_shape(entry) else {
            let place = format!("{}/batch_shape", entry.config_place());
            problems.push(place.clone(), "is missing");
            return Self { name, place, sizes: None };
        };
        let sizes = read_shape(shape, &place, problems);
        Self { name, place, sizes }
    }
}

fn read_entries<'a>(
    layers: &'a [Value],
    place: &str,
    problems: &mut Problems,
) -> Option<Vec<Entry<'a>>> {
    if layers.is_empty() {
        problems.push(place, "there are no layers");
        return None;
    }
    if layers.len() > LAYERS_MAX {
        problems
            .push(place, format!("lists {} layers; at most {LAYERS_MAX} are read", layers.len()));
        return None;
    }
    let mut entries = Vec::with_capacity(layers.len());
    for (index, value) in layers.iter().enumerate() {
        if problems.is_full() {
            return None;
        }
        entries.extend(Entry::read(value, format!("{place}/{index}"), index, problems));
    }
    (entries.len() == layers.len()).then_some(entries)
}

/// The input shape that an entry states, and where; of a nested model, its first layer's.
fn stated_shape<'a>(entry: &Entry<'a>) -> Option<(String, &'a Value)> {
    let (mut config, mut place) = (entry.config, entry.config_place());
    loop {
        for key in ["batch_input_shape", "batch_shape", "build_input_shape"] {
            if let Some(shape) = config.get(key).filter(|shape| !shape.is_null()) {
                return Some((format!("{place}/{key}"), shape));
            }
        }
        let layers = config.get("layers");
        place += if layers.is_some() { "/layers/0/config" } else { "/0/config" };
        config = layers.unwrap_or(config).get(0)?.get("config")?;
    }
}
