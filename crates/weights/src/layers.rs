//! The layers of a Keras model, as its weight files name them: not by name, but by class and by
//! their order among those of one class.

use arrowhop_types::Problems;
use serde_json::Value;

/// Models nested deeper are refused.
const DEPTH_MAX: usize = 16;

/// A layer of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KerasLayer {
    /// Its name in the model.
    pub(crate) name: String,
    /// Its group in a file of Keras 3: `conv2d_1` is the second Conv2D.
    pub(crate) group: String,
    /// Keras's class.
    pub(crate) class: String,
    /// Whether it has a bias where its class leaves that open.
    pub(crate) uses_bias: bool,
    /// Of a nested model, its layers.
    pub(crate) layers: Vec<KerasLayer>,
}

/// The layers of `model.to_json()`.
pub(crate) fn read(keras_json: &str) -> Result<Vec<KerasLayer>, Problems> {
    let model: Value = serde_json::from_str(keras_json)
        .map_err(|error| Problems::one("architecture", error.to_string()))?;
    of_model(&model["config"], DEPTH_MAX)
        .ok_or_else(|| Problems::one("architecture", "is no model of Keras: it has no layers"))
}

/// The layers of a model's `config`: a list, or an object with a list.
fn of_model(config: &Value, depth_left: usize) -> Option<Vec<KerasLayer>> {
    let depth_left = depth_left.checked_sub(1)?;
    let list = config.as_array().or_else(|| config["layers"].as_array())?;
    let mut layers: Vec<KerasLayer> = Vec::with_capacity(list.len());
    for layer in list {
        let class = layer["class_name"].as_str()?;
        let config = &layer["config"];
        let name = config["name"].as_str().or_else(|| layer["name"].as_str()).unwrap_or(class);
        let is_model = matches!(class, "Sequential" | "Functional" | "Model");
        let class = if class == "Model" { "Functional" } else { class };
        let earlier = layers.iter().filter(|layer| layer.class == class).count();
        let group = match earlier {
            0 => snake_case(class),
            _ => format!("{}_{earlier}", snake_case(class)),
        };
        layers.push(KerasLayer {
            name: name.to_owned(),
            group,
            class: class.to_owned(),
            uses_bias: config["use_bias"].as_bool().unwrap_or(true),
            layers: if is_model { of_model(config, depth_left)? } else { Vec::new() },
        });
    }
    Some(layers)
}

/// Keras's spelling of a class in paths: `Conv2DTranspose` is `conv2d_transpose`.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut snake = String::new();
    for (i, &letter) in letters.iter().enumerate() {
        let begins_word = letters.get(i + 1).is_some_and(|next| next.is_ascii_lowercase());
        let ends_word = i > 0 && letters[i - 1].is_ascii_lowercase();
        if i > 0 && letter.is_ascii_uppercase() && (begins_word || ends_word) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_spelt_as_keras_does() {
        for (class, snake) in [
            ("Dense", "dense"),
            ("Conv2D", "conv2d"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("LSTM", "lstm"),
            ("PReLU", "p_re_lu"),
            ("MultiHeadAttention", "multi_head_attention"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("BatchNormalization", "batch_normalization"),
        ] {
            assert_eq!(snake_case(class), snake);
        }
    }

    #[test]
    fn layers_of_one_class_are_counted_in_each_model() {
        let dense =
            |name: &str| format!(r#"{{"class_name":"Dense","config":{{"name":"{name}"}}}}"#);
        let (a, b, c) = (dense("a"), dense("b"), dense("c"));
        let nested =
            format!(r#"{{"class_name":"Model","name":"inner","config":{{"layers":[{b},{c}]}}}}"#);
        let text = format!(r#"{{"class_name":"Sequential","config":[{a},{nested},{b}]}}"#);
        let layers = read(&text).unwrap();
        let seen = |layers: &[KerasLayer]| {
            layers.iter().map(|l| format!("{} {}", l.group, l.name)).collect::<Vec<_>>()
        };
        assert_eq!(seen(&layers), ["dense a", "functional inner", "dense_1 b"]);
        assert_eq!(seen(&layers[1].layers), ["dense b", "dense_1 c"]);
    }

    #[test]
    fn what_is_no_model_is_refused() {
        assert!(read("{").unwrap_err().to_string().starts_with("architecture: "));
        assert!(read(r#"{"config":{"layers":3}}"#).is_err());
        let mut deep = String::from(r#"{"class_name":"Dense","config":{}}"#);
        for _ in 0..40 {
            deep = format!(r#"{{"class_name":"Sequential","config":[{deep}]}}"#);
        }
        assert!(read(&deep).unwrap_err().to_string().contains("has no layers"));
    }
}
