//! One entry of a model's list of layers: its class, its name and where its options stand.

use arrowhop_types::Problems;
use serde_json::Value;

use super::is_model;
use crate::fields::Fields;

/// Longer names are refused: they name weights in files.
const NAME_BYTES_MAX: usize = 256;

/// A layer or a nested model, as listed.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub(super) class: &'a str,
    /// By which others call it.
    pub(super) name: String,
    pub(super) config: &'a Value,
    /// The entry's JSON pointer.
    pub(super) place: String,
    /// How it is called, in a functional model.
    pub(super) inbound: Option<&'a Value>,
}

impl<'a> Entry<'a> {
    /// Reads the entry at `place`, number `index` of its list.
    pub(super) fn read(
        value: &'a Value,
        place: String,
        index: usize,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut fields = Fields::of(value, place.clone(), problems)?;
        let class = fields.required_text("class_name");
        let config = fields.value("config");
        if config.is_none() {
            fields.problem("config", "is missing");
        }
        let outer_name = fields.text("name");
        let inbound = fields.value("inbound_nodes");
        fields.finish(problems);
        let (class, config) = class.zip(config)?;
        let name = name_of(config, outer_name, class, index, &place, problems);
        Some(Self { class, name, config, place, inbound })
    }

    /// The JSON pointer of its options.
    pub(super) fn config_place(&self) -> String {
        format!("{}/config", self.place)
    }

    /// Whether it is a model of layers.
    pub(super) fn is_model(&self) -> bool {
        is_model(self.class)
    }
}

/// Functional models name a layer beside its options, too; a list-form model has options that are
/// no object.
fn name_of(
    config: &Value,
    outer_name: Option<&str>,
    class: &str,
    index: usize,
    place: &str,
    problems: &mut Problems,
) -> String {
    let inner_name = match config {
        Value::Object(_) => {
            let mut fields = Fields::of(config, format!("{place}/config"), problems);
            let name = fields.as_mut().and_then(|fields| fields.text("name"));
            if let Some(fields) = fields {
                fields.finish(problems);
            }
            name
        }
        _ => None,
    };
    let Some(name) = outer_name.or(inner_name) else {
        let class: String = class.chars().take(80).collect();
        return format!("{}_{index}", class.to_lowercase());
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let place = format!("{place}/config/name");
        problems.push(place, format!("must have 1 to {NAME_BYTES_MAX} bytes"));
    }
    name.to_owned()
}
