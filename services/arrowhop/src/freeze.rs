//! Freezes layers: sets `trainable` to false in a copy of a network's Keras JSON.

use arrowhop_types::Problems;
use serde_json::Value;

/// Names of layers in an error text.
const NAMES_MAX: usize = 20;

/// The JSON with every layer frozen whose name matches one of `patterns`, in which `*` stands for
/// any letters and `?` for one. A nested model is frozen with all its layers.
///
/// # Errors
/// When the text is no JSON, or a pattern matches no layer.
pub(crate) fn freeze(keras_json: &str, patterns: &[String]) -> Result<String, Problems> {
    if patterns.is_empty() {
        return Ok(keras_json.to_owned());
    }
    let mut model: Value = serde_json::from_str(keras_json)
        .map_err(|error| Problems::one("architecture", error.to_string()))?;
    let mut walk = Walk { patterns, is_used: vec![false; patterns.len()], names: Vec::new() };
    if let Some(config) = model.get_mut("config") {
        walk.model(config, false);
    }
    let mut problems = Problems::new();
    for (i, (pattern, is_used)) in patterns.iter().zip(walk.is_used).enumerate() {
        if !is_used {
            walk.names.truncate(NAMES_MAX);
            let names = walk.names.join(", ");
            problems.push(
                format!("freeze[{i}]"),
                format!("{pattern:?} matches no layer; there are {names}"),
            );
        }
    }
    problems.or(model.to_string())
}

struct Walk<'a> {
    patterns: &'a [String],
    is_used: Vec<bool>,
    names: Vec<String>,
}

impl Walk<'_> {
    /// The layers of a model's `config`: a list, or an object with a list.
    fn model(&mut self, config: &mut Value, is_frozen: bool) {
        let list = match config {
            Value::Array(list) => list,
            config => match config.get_mut("layers") {
                Some(Value::Array(list)) => list,
                _ => return,
            },
        };
        for layer in list {
            let name = layer["config"]["name"].as_str().or_else(|| layer["name"].as_str());
            let name = name.unwrap_or_default().to_owned();
            let is_frozen = self.matches(&name) || is_frozen;
            self.names.push(name);
            let Some(config) = layer.get_mut("config") else { continue };
            if let (true, Value::Object(config)) = (is_frozen, &mut *config) {
                config.insert("trainable".to_owned(), Value::Bool(false));
            }
            self.model(config, is_frozen);
        }
    }

    fn matches(&mut self, name: &str) -> bool {
        let mut any = false;
        for (pattern, is_used) in self.patterns.iter().zip(&mut self.is_used) {
            let found = matches(pattern.as_bytes(), name.as_bytes());
            *is_used |= found;
            any |= found;
        }
        any
    }
}

/// Whether a pattern matches a whole name. Backtracks to the last `*` alone, which is enough.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut last_star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, n));
                p += 1;
            }
            Some(&letter) if letter == b'?' || letter == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star, taken)) = last_star else { return false };
                last_star = Some((star, taken + 1));
                (p, n) = (star + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, is_match) in [
            ("conv*", "conv2d_1", true),
            ("conv*", "my_conv", false),
            ("*conv*1", "my_conv2d_1_1", true),
            ("dense_?", "dense_1", true),
            ("dense_?", "dense_10", false),
            ("*", "", true),
            ("", "a", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), is_match, "{pattern} {name}");
        }
    }

    #[test]
    fn layers_that_match_are_frozen_and_nested_ones_with_their_model() {
        let layer =
            |name: &str| format!(r#"{{"class_name":"Dense","config":{{"name":"{name}"}}}}"#);
        let inner = format!(
            r#"{{"class_name":"Functional","config":{{"name":"body","layers":[{}]}}}}"#,
            layer("inner")
        );
        let text = format!(
            r#"{{"class_name":"Sequential","config":{{"layers":[{},{inner},{}]}}}}"#,
            layer("conv_a"),
            layer("head")
        );
        let patterns = ["conv*", "body"].map(str::to_owned);
        let frozen: Value = serde_json::from_str(&freeze(&text, &patterns).unwrap()).unwrap();
        let layers = &frozen["config"]["layers"];
        assert_eq!(layers[0]["config"]["trainable"], false);
        assert_eq!(layers[1]["config"]["layers"][0]["config"]["trainable"], false);
        assert_eq!(layers[2]["config"].get("trainable"), None);

        let patterns = ["head", "tail*", "x"].map(str::to_owned);
        let problems = freeze(&text, &patterns).unwrap_err().to_string();
        assert_eq!(
            problems,
            "freeze[1]: \"tail*\" matches no layer; there are conv_a, body, inner, head\n\
             freeze[2]: \"x\" matches no layer; there are conv_a, body, inner, head"
        );
        assert_eq!(freeze(&text, &[]).unwrap(), text);
    }
}
