//! Attention with several heads.

use super::arrays::{GLOROT_UNIFORM, bias, weight};
use super::{Context, Fitted, macs};
use crate::fields::Fields;
use crate::keras::options;
use crate::layer::{MaskRule, MultiHeadAttention, Operation, Shape, Weight};

/// Reads MultiHeadAttention, called on query, value and, maybe, key.
pub(super) fn multi_head_attention(
    fields: &mut Fields<'_>,
    inputs: Option<&[Shape]>,
    context: &Context,
) -> Option<Fitted> {
    let heads = fields.required_size("num_heads");
    let key_size = fields.required_size("key_dim");
    let value_size = fields.size("value_dim", key_size.unwrap_or(1));
    let dropout = options::rate(fields, "dropout", 0.0);
    let has_bias = fields.flag("use_bias", true);
    check_axes(fields);
    options::refuse_set(fields, &["output_shape", "use_gate", "sliding_window"]);
    let sequences = sequences(fields, inputs);
    let [query, value, key] = sequences.unwrap_or([[1, 1]; 3]);
    let (heads_or_1, size) = (heads.unwrap_or(1), key_size.unwrap_or(1));
    let projections = [
        ("query", query, vec![query[1], heads_or_1, size]),
        ("key", key, vec![key[1], heads_or_1, size]),
        ("value", value, vec![value[1], heads_or_1, value_size]),
        ("attention_output", query, vec![heads_or_1, value_size, query[1]]),
    ];
    let mut weights = Vec::new();
    let mut total: u64 = 0;
    for (name, [steps, _], shape) in projections {
        total = total.saturating_add(macs(shape.iter().copied().chain([steps])));
        weights.extend(projection(fields, context, name, shape));
    }
    let ([steps, width], _) = (query, sequences?);
    let attention = MultiHeadAttention {
        heads: heads?,
        key_size: key_size?,
        value_size,
        has_bias,
        dropout,
        is_causal: false,
    };
    let fitted = Fitted::of(Operation::MultiHeadAttention(attention), vec![steps, width]);
    Some(fitted.weighted(weights, total).masked(MaskRule::Pass))
}

/// Reads kernel and bias of a projection. The bias is added to what it makes: all axes of the kernel
/// but the first, of the output's but the first two.
fn projection(fields: &mut Fields<'_>, context: &Context, name: &str, shape: Shape) -> Vec<Weight> {
    let made = if name == "attention_output" { &shape[2..] } else { &shape[1..] };
    let bias = bias(fields, context, made.to_vec());
    let kernel = weight(fields, context, "kernel", "kernel", shape, GLOROT_UNIFORM);
    let named = |weight: Weight| Weight { name: format!("{name}/{}", weight.name), ..weight };
    [kernel].into_iter().chain(bias).map(named).collect()
}

/// Steps and width of query, value and key; the key is the value where it is not given.
fn sequences(fields: &mut Fields<'_>, inputs: Option<&[Shape]>) -> Option<[[usize; 2]; 3]> {
    let inputs = inputs?;
    let pairs: Option<Vec<[usize; 2]>> =
        inputs.iter().map(|shape| <[usize; 2]>::try_from(shape.as_slice()).ok()).collect();
    let found = match pairs.as_deref() {
        Some(&[query, value]) => Some([query, value, value]),
        Some(&[query, value, key]) if key[0] == value[0] => Some([query, value, key]),
        _ => None,
    };
    if found.is_none() {
        let shown: Vec<_> = inputs.iter().take(4).collect();
        let text = format!(
            "takes query, value and, maybe, key, each of steps and elements, the last two of as many \
             steps; not inputs of shapes {shown:?}"
        );
        fields.problem_here(text);
    }
    found
}

/// Attention is over the steps: null, or axis 1.
fn check_axes(fields: &mut Fields<'_>) {
    let Some(value) = fields.value("attention_axes") else { return };
    let axis = value.as_array().map_or(Some(value), |axes| match axes.as_slice() {
        [axis] => Some(axis),
        _ => None,
    });
    if axis.and_then(serde_json::Value::as_i64) != Some(1) {
        fields.problem("attention_axes", "only the steps, axis 1, are supported; it must be null");
    }
}
