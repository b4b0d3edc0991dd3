//! The arguments of a call, as a functional model's `inbound_nodes` has them.
//!
//! Keras 2: a list of `[layer, node, tensor, kwargs]`. Keras 3: `{args, kwargs}`, where a tensor is
//! `{class_name: "__keras_tensor__", config: {keras_history: [layer, node, tensor]}}`. Keras 3 also
//! writes what it overrides when it runs the model, `training`, and masks that follow from the
//! layers before.

use serde_json::Value;

use crate::fields::shown;

/// Tensors in one call stay below this.
const TENSORS_MAX: usize = 4096;

/// The tensor that a layer's call made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// The layer's name.
    pub(super) layer: &'a str,
    /// Which of its calls.
    pub(super) node: usize,
    /// Which of that call's outputs.
    pub(super) tensor: usize,
}

/// What a layer is called with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Arguments<'a> {
    /// Positional tensors, then those by name, in the order of the layer's parameters.
    pub(super) tensors: Vec<Reference<'a>>,
    /// `training=False`: the layer infers even while the model is trained.
    pub(super) infers: bool,
    /// `use_causal_mask=True`.
    pub(super) is_causal: bool,
    /// The masks that Keras 3 found to be those of the inputs.
    pub(super) masks: Vec<Reference<'a>>,
}

/// Keyword arguments that hold tensors, in the order of the parameters of the layers that have them.
const TENSOR_KEYWORDS: [&str; 4] = ["inputs", "value", "key", "initial_state"];
/// Keyword arguments that ask for what a layer does anyway, when they are false.
const OFF_BY_DEFAULT: [&str; 1] = ["return_attention_scores"];

impl<'a> Reference<'a> {
    /// From `[layer, node, tensor]` or `[layer, node, tensor, kwargs]`.
    pub(super) fn read(value: &'a Value) -> Option<Self> {
        let (layer, node, tensor) = match value.as_array()?.as_slice() {
            [layer, node, tensor] | [layer, node, tensor, Value::Object(_)] => {
                (layer, node, tensor)
            }
            _ => return None,
        };
        let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
        Some(Self { layer: layer.as_str()?, node: number(node)?, tensor: number(tensor)? })
    }

    /// From Keras 3's `__keras_tensor__`.
    fn read_tensor(value: &'a Value) -> Option<Self> {
        (value.get("class_name")?.as_str()? == "__keras_tensor__")
            .then(|| value.pointer("/config/keras_history"))?
            .and_then(Self::read)
    }
}

impl<'a> Arguments<'a> {
    /// Reads one call; else says what is wrong with it.
    pub(super) fn read(call: &'a Value) -> Result<Self, String> {
        let mut arguments = Self::default();
        match call {
            Value::Array(tensors) => {
                for tensor in tensors {
                    let reference = Reference::read(tensor).ok_or_else(|| unreadable(tensor))?;
                    arguments.push(reference)?;
                }
                for tensor in tensors {
                    if let Some(Value::Object(keywords)) = tensor.get(3) {
                        arguments.read_keywords(keywords.iter())?;
                    }
                }
            }
            Value::Object(fields) => {
                for tensor in references(fields.get("args").unwrap_or(&Value::Null))? {
                    arguments.push(tensor)?;
                }
                if let Some(Value::Object(keywords)) = fields.get("kwargs") {
                    let own = ["training", "mask"];
                    let others = keywords.iter().filter(|(key, _)| !own.contains(&key.as_str()));
                    arguments.read_keywords(others)?;
                    arguments.masks = references(keywords.get("mask").unwrap_or(&Value::Null))?;
                }
            }
            other => return Err(unreadable(other)),
        }
        Ok(arguments)
    }

    fn read_keywords(
        &mut self,
        keywords: impl Iterator<Item = (&'a String, &'a Value)> + Clone,
    ) -> Result<(), String> {
        for wanted in TENSOR_KEYWORDS {
            for (_, value) in keywords.clone().filter(|(key, _)| *key == wanted) {
                for tensor in references(value)? {
                    self.push(tensor)?;
                }
            }
        }
        for (key, value) in keywords {
            match (key.as_str(), value) {
                (_, Value::Null) => {}
                (key, _) if TENSOR_KEYWORDS.contains(&key) => {}
                (key, Value::Bool(false)) if OFF_BY_DEFAULT.contains(&key) => {}
                ("training", Value::Bool(false)) => self.infers = true,
                ("use_causal_mask", Value::Bool(is_causal)) => self.is_causal |= is_causal,
                (key, value) => {
                    let key: String = key.chars().take(80).collect();
                    return Err(format!(
                        "argument {key:?} of {} is not supported; call the layer without it",
                        shown(value)
                    ));
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, reference: Reference<'a>) -> Result<(), String> {
        if self.tensors.len() == TENSORS_MAX {
            return Err(format!("has more than {TENSORS_MAX} tensors"));
        }
        self.tensors.push(reference);
        Ok(())
    }
}

/// All tensors in lists within lists; nulls are arguments that are not given.
fn references(value: &Value) -> Result<Vec<Reference<'_>>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => match Reference::read(value) {
            Some(reference) => Ok(vec![reference]),
            None => Ok(items.iter().map(references).collect::<Result<Vec<_>, _>>()?.concat()),
        },
        Value::Object(_) => {
            Ok(vec![Reference::read_tensor(value).ok_or_else(|| unreadable(value))?])
        }
        other => Err(unreadable(other)),
    }
}

fn unreadable(value: &Value) -> String {
    format!("must name tensors as [layer, node, tensor], not {}", shown(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reference(layer: &str, node: usize, tensor: usize) -> Reference<'_> {
        Reference { layer, node, tensor }
    }

    #[test]
    fn both_versions_say_the_same() {
        let tensor = |name: &str, node: usize| {
            json!({"class_name": "__keras_tensor__",
                "config": {"shape": [null, 3], "keras_history": [name, node, 0]}})
        };
        let second = json!([["a", 0, 0, {"value": ["b", 1, 0], "training": false}]]);
        let third = json!({"args": [tensor("a", 0)],
            "kwargs": {"value": tensor("b", 1), "training": false, "mask": tensor("c", 0)}});
        let expected = Arguments {
            tensors: vec![reference("a", 0, 0), reference("b", 1, 0)],
            infers: true,
            ..Arguments::default()
        };
        assert_eq!(Arguments::read(&second), Ok(expected.clone()));
        let masks = vec![reference("c", 0, 0)];
        assert_eq!(Arguments::read(&third), Ok(Arguments { infers: false, masks, ..expected }));
        let merge = json!({"args": [[tensor("a", 0), tensor("b", 2)]], "kwargs": {}});
        let merge = Arguments::read(&merge).unwrap();
        assert_eq!(merge.tensors, [reference("a", 0, 0), reference("b", 2, 0)]);
    }

    /// The order of attention's parameters is query, value, key, whatever the text's order.
    #[test]
    fn keyword_tensors_stand_in_the_parameters_order() {
        let call = json!([["q", 0, 0, {"key": ["k", 0, 0], "value": ["v", 0, 0],
            "use_causal_mask": true}]]);
        let arguments = Arguments::read(&call).unwrap();
        let names: Vec<_> = arguments.tensors.iter().map(|tensor| tensor.layer).collect();
        assert_eq!((names, arguments.is_causal), (vec!["q", "v", "k"], true));
    }

    #[test]
    fn what_would_change_the_result_is_refused_by_name() {
        let table = [
            (json!([["a", 0, 0, {"training": true}]]), "argument \"training\" of true"),
            (json!([["a", 0, 0, {"mask": ["b", 0, 0]}]]), "argument \"mask\" of"),
            (json!([["a", -1, 0]]), "must name tensors as [layer, node, tensor], not [\"a\",-1,0]"),
            (json!({"args": [3.5]}), "must name tensors"),
            (json!("a"), "must name tensors"),
        ];
        for (call, expected) in table {
            let error = Arguments::read(&call).unwrap_err();
            assert!(error.starts_with(expected), "{call}: {error}");
        }
    }
}
