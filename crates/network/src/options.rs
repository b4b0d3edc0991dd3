//! Options that many layers share: activations, initialisers, and those that are not supported and
//! therefore refused rather than ignored.

use crate::activation::Activation;
use crate::fields::{Fields, shown};
use crate::initializer::{Distribution, Fan, Initializer};

/// Multiplications an orthogonal initialisation may take: about ten seconds.
const ORTHOGONAL_COST_MAX: u128 = 1 << 34;

/// Reads `key` as the name of an activation.
pub(crate) fn activation(fields: &mut Fields<'_>, key: &str, keras_major: u32) -> Activation {
    let Some(name) = fields.text(key) else {
        return Activation::Linear;
    };
    Activation::from_keras(name, keras_major).unwrap_or_else(|| {
        fields.problem(key, format!("activation {name:?} is not supported"));
        Activation::Linear
    })
}

/// Notes a problem for each option that would change what the layer computes and that this
/// version does not have.
pub(crate) fn refuse_unsupported(fields: &mut Fields<'_>) {
    for key in fields.keys() {
        if key.ends_with("_regularizer") || key.ends_with("_constraint") {
            let what = key.rsplit('_').next().unwrap_or(key);
            fields.problem(key, format!("{what}s are not supported; it must be null"));
        }
    }
    refuse_other_data_formats(fields);
    refuse_other_dtypes(fields);
}

fn refuse_other_data_formats(fields: &mut Fields<'_>) {
    if let Some(format) = fields.text("data_format")
        && format != "channels_last"
    {
        fields.problem("data_format", format!("{format:?} is not supported, only channels_last"));
    }
}

/// Keras 2 names a type; Keras 3 has a policy object with a name.
fn refuse_other_dtypes(fields: &mut Fields<'_>) {
    let Some(value) = fields.value("dtype") else {
        return;
    };
    let name = value.pointer("/config/name").unwrap_or(value);
    if name.as_str() != Some("float32") {
        fields.problem("dtype", format!("{} is not supported, only float32", shown(name)));
    }
}

/// Reads `key` as an initialiser: `{class_name, config}`, or the snake-case name alone.
pub(crate) fn initializer(
    fields: &mut Fields<'_>,
    key: &str,
    default: Initializer,
    shape: &[usize],
) -> Initializer {
    let Some(value) = fields.value(key) else {
        return default;
    };
    let place = fields.at(key);
    let empty = serde_json::Value::Object(serde_json::Map::new());
    let (class, config, config_place) = match value {
        serde_json::Value::String(name) => (name.as_str(), &empty, place),
        _ => {
            let Some(mut object) = Fields::of(value, place.clone(), fields.problems()) else {
                return default;
            };
            let class = object.required_text("class_name");
            let config = object.value("config").unwrap_or(&empty);
            object.finish(fields.problems());
            let Some(class) = class else { return default };
            (class, config, format!("{place}/config"))
        }
    };
    let Some(mut config) = Fields::of(config, config_place, fields.problems()) else {
        return default;
    };
    let read = by_class(class, &mut config);
    if !config.finish(fields.problems()) {
        return default;
    }
    let Some(read) = read else {
        fields.problem(key, format!("initializer {class:?} is not supported"));
        return default;
    };
    if let Some(text) = misfit(&read, shape) {
        fields.problem(key, text);
    }
    read
}

/// Reads the initialiser of this class; `None` where there is none of this name.
fn by_class(class: &str, config: &mut Fields<'_>) -> Option<Initializer> {
    let glorot = |distribution| scaled(1.0, Fan::Average, distribution);
    let he = |distribution| scaled(2.0, Fan::In, distribution);
    let lecun = |distribution| scaled(1.0, Fan::In, distribution);
    Some(match class {
        "Zeros" | "zeros" => Initializer::Constant(0.0),
        "Ones" | "ones" => Initializer::Constant(1.0),
        "Constant" | "constant" => Initializer::Constant(config.number("value", 0.0)),
        "RandomUniform" | "random_uniform" | "uniform" => Initializer::Uniform {
            low: config.number("minval", -0.05),
            high: config.number("maxval", 0.05),
        },
        "RandomNormal" | "random_normal" | "normal" => {
            let (mean, deviation) = mean_and_deviation(config);
            Initializer::Normal { mean, deviation }
        }
        "TruncatedNormal" | "truncated_normal" => {
            let (mean, deviation) = mean_and_deviation(config);
            Initializer::TruncatedNormal { mean, deviation }
        }
        "VarianceScaling" | "variance_scaling" => variance_scaling(config),
        "GlorotUniform" | "glorot_uniform" => glorot(Distribution::Uniform),
        "GlorotNormal" | "glorot_normal" => glorot(Distribution::TruncatedNormal),
        "HeUniform" | "he_uniform" => he(Distribution::Uniform),
        "HeNormal" | "he_normal" => he(Distribution::TruncatedNormal),
        "LecunUniform" | "lecun_uniform" => lecun(Distribution::Uniform),
        "LecunNormal" | "lecun_normal" => lecun(Distribution::TruncatedNormal),
        "Orthogonal" | "orthogonal" | "OrthogonalInitializer" => {
            Initializer::Orthogonal { gain: config.number("gain", 1.0) }
        }
        "Identity" | "identity" | "IdentityInitializer" => {
            Initializer::Identity { gain: config.number("gain", 1.0) }
        }
        _ => return None,
    })
}

fn scaled(scale: f64, fan: Fan, distribution: Distribution) -> Initializer {
    Initializer::Scaled { scale, fan, distribution }
}

fn mean_and_deviation(config: &mut Fields<'_>) -> (f64, f64) {
    let (mean, deviation) = (config.number("mean", 0.0), config.number("stddev", 0.05));
    if deviation < 0.0 {
        config.problem("stddev", "must not be negative");
    }
    (mean, deviation)
}

fn variance_scaling(config: &mut Fields<'_>) -> Initializer {
    let scale = config.number("scale", 1.0);
    if scale <= 0.0 {
        config.problem("scale", "must be positive");
    }
    let fan = match config.text("mode").unwrap_or("fan_in") {
        "fan_in" => Fan::In,
        "fan_out" => Fan::Out,
        "fan_avg" => Fan::Average,
        mode => {
            config.problem("mode", format!("{mode:?} is not fan_in, fan_out or fan_avg"));
            Fan::In
        }
    };
    let distribution = match config.text("distribution").unwrap_or("truncated_normal") {
        "uniform" => Distribution::Uniform,
        "truncated_normal" | "normal" => Distribution::TruncatedNormal,
        "untruncated_normal" => Distribution::UntruncatedNormal,
        name => {
            config.problem("distribution", format!("distribution {name:?} is not supported"));
            Distribution::Uniform
        }
    };
    scaled(scale, fan, distribution)
}

/// Why an initialiser cannot fill an array of this shape.
fn misfit(initializer: &Initializer, shape: &[usize]) -> Option<String> {
    let columns = shape.last().copied().unwrap_or(1).max(1);
    match initializer {
        Initializer::Identity { .. } | Initializer::Orthogonal { .. } if shape.len() == 1 => {
            Some("this initializer needs a matrix; choose another one for a vector".into())
        }
        Initializer::Identity { .. } if shape.len() > 2 => {
            Some("Identity fills only matrices; choose another initializer".into())
        }
        Initializer::Orthogonal { .. } => {
            let elements = shape.iter().map(|&size| size as u128).product::<u128>();
            let short = (columns as u128).min(elements / columns as u128);
            (elements * short > ORTHOGONAL_COST_MAX).then(|| {
                format!("{shape:?} is too large for Orthogonal; choose another initializer")
            })
        }
        _ => None,
    }
}
