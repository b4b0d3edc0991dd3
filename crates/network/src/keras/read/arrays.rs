//! Weight arrays: their initialisers and regularisers.

use super::Context;
use crate::fields::Fields;
use crate::initializer::{Distribution, Fan, Initializer};
use crate::keras::options::named;
use crate::layer::{Shape, Weight};
use crate::regularizer::Regularizer;

/// Multiplications an orthogonal initialisation may take: about ten seconds.
const ORTHOGONAL_COST_MAX: u128 = 1 << 34;

/// Keras's default for most kernels.
pub(super) const GLOROT_UNIFORM: Initializer =
    Initializer::Scaled { scale: 1.0, fan: Fan::Average, distribution: Distribution::Uniform };

/// Reads `{option}_initializer` and `{option}_regularizer` of an array.
pub(super) fn weight(
    fields: &mut Fields<'_>,
    context: &Context,
    name: &str,
    option: &str,
    shape: Shape,
    default: Initializer,
) -> Weight {
    let key = format!("{option}_initializer");
    let initializer = initializer(fields, &key).unwrap_or(default);
    if let Some(text) = misfit(&initializer, &shape) {
        fields.problem(&key, text);
    }
    let regularizer = regularizer(fields, &format!("{option}_regularizer"));
    let is_trainable = context.is_trainable;
    Weight { name: name.to_owned(), shape, is_trainable, initializer, regularizer }
}

/// Reads a kernel of this shape, and a bias as long as its last axis unless `use_bias` is false.
pub(super) fn kernel_and_bias(
    fields: &mut Fields<'_>,
    context: &Context,
    shape: Shape,
) -> Vec<Weight> {
    let units = shape.last().copied().unwrap_or(1);
    let kernel = weight(fields, context, "kernel", "kernel", shape, GLOROT_UNIFORM);
    [kernel].into_iter().chain(bias(fields, context, vec![units])).collect()
}

/// Reads a bias, unless `use_bias` is false.
pub(super) fn bias(fields: &mut Fields<'_>, context: &Context, shape: Shape) -> Option<Weight> {
    let bias = weight(fields, context, "bias", "bias", shape, Initializer::Constant(0.0));
    fields.flag("use_bias", true).then_some(bias)
}

/// Reads the gamma of a normalisation unless `scale` is false, and its beta unless `center` is.
pub(super) fn gamma_and_beta(
    fields: &mut Fields<'_>,
    context: &Context,
    shape: &[usize],
) -> [Option<Weight>; 2] {
    let arrays = [("gamma", "scale", 1.0), ("beta", "center", 0.0)];
    arrays.map(|(name, flag, value)| {
        let default = Initializer::Constant(value);
        let array = weight(fields, context, name, name, shape.to_vec(), default);
        fields.flag(flag, true).then_some(array)
    })
}

/// Reads a regulariser; one that costs nothing is none.
fn regularizer(fields: &mut Fields<'_>, key: &str) -> Option<Regularizer> {
    let (class, mut config) = named(fields, key)?;
    let mut number = |key: &str, default: f64| {
        let number = config.number(key, default);
        if number < 0.0 {
            config.problem(key, "must not be negative");
        }
        number
    };
    let regularizer = match class {
        "L1" | "l1" => Some(Regularizer { l1: number("l1", 0.01), l2: 0.0 }),
        "L2" | "l2" => Some(Regularizer { l1: 0.0, l2: number("l2", 0.01) }),
        "L1L2" => Some(Regularizer { l1: number("l1", 0.0), l2: number("l2", 0.0) }),
        "l1_l2" => Some(Regularizer { l1: 0.01, l2: 0.01 }),
        _ => None,
    };
    config.finish(fields.problems());
    if regularizer.is_none() {
        let text = format!("regularizer {} is not supported, only L1, L2 and L1L2", quoted(class));
        fields.problem(key, text);
    }
    regularizer.filter(|regularizer| regularizer.l1 != 0.0 || regularizer.l2 != 0.0)
}

/// Reads an initialiser.
fn initializer(fields: &mut Fields<'_>, key: &str) -> Option<Initializer> {
    let (class, mut config) = named(fields, key)?;
    let initializer = initializer_of(class, &mut config);
    config.finish(fields.problems());
    if initializer.is_none() {
        fields.problem(key, format!("initializer {} is not supported", quoted(class)));
    }
    initializer
}

/// Reads the initialiser of this class; `None` where there is none of this name.
fn initializer_of(class: &str, config: &mut Fields<'_>) -> Option<Initializer> {
    let scaled = |scale, fan, distribution| Initializer::Scaled { scale, fan, distribution };
    Some(match class {
        "Zeros" | "zeros" | "zero" => Initializer::Constant(0.0),
        "Ones" | "ones" | "one" => Initializer::Constant(1.0),
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
        "GlorotUniform" | "glorot_uniform" => GLOROT_UNIFORM,
        "GlorotNormal" | "glorot_normal" => {
            scaled(1.0, Fan::Average, Distribution::TruncatedNormal)
        }
        "HeUniform" | "he_uniform" => scaled(2.0, Fan::In, Distribution::Uniform),
        "HeNormal" | "he_normal" => scaled(2.0, Fan::In, Distribution::TruncatedNormal),
        "LecunUniform" | "lecun_uniform" => scaled(1.0, Fan::In, Distribution::Uniform),
        "LecunNormal" | "lecun_normal" => scaled(1.0, Fan::In, Distribution::TruncatedNormal),
        "Orthogonal" | "orthogonal" | "OrthogonalInitializer" => {
            Initializer::Orthogonal { gain: config.number("gain", 1.0) }
        }
        "Identity" | "identity" | "IdentityInitializer" => {
            Initializer::Identity { gain: config.number("gain", 1.0) }
        }
        _ => return None,
    })
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
    Initializer::Scaled { scale, fan, distribution }
}

/// Why an initialiser cannot fill an array of this shape.
fn misfit(initializer: &Initializer, shape: &[usize]) -> Option<String> {
    let columns = shape.last().copied().unwrap_or(1).max(1) as u128;
    match initializer {
        Initializer::Identity { .. } | Initializer::Orthogonal { .. } if shape.len() == 1 => {
            Some("this initializer needs a matrix; choose another one for a vector".into())
        }
        Initializer::Identity { .. } if shape.len() > 2 => {
            Some("Identity fills only matrices; choose another initializer".into())
        }
        Initializer::Orthogonal { .. } => {
            let elements =
                shape.iter().fold(1, |product: u128, &size| product.saturating_mul(size as u128));
            let short = columns.min(elements / columns);
            (elements.saturating_mul(short) > ORTHOGONAL_COST_MAX).then(|| {
                format!("{shape:?} is too large for Orthogonal; choose another initializer")
            })
        }
        _ => None,
    }
}

fn quoted(class: &str) -> String {
    format!("{:?}", class.chars().take(80).collect::<String>())
}
