//! Attention with several heads. Source: Keras's `MultiHeadAttention`.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor};

use super::{Mode, Weights, noise};
use crate::layer::MultiHeadAttention;
use crate::value::Value;

/// The score of what a step must not see; one that may see nothing sees all alike.
const HIDDEN: f64 = -1e9;

/// What the query's steps draw from the value's; inputs are query, value and, where it is given, key.
/// A mask hides the value's and the key's steps from all, and everything from the query's.
pub(super) fn attention(
    layer: &MultiHeadAttention,
    inputs: Vec<Value>,
    weights: &Weights<'_>,
    mode: &mut Mode<'_>,
) -> Value {
    let mut inputs = inputs.into_iter();
    let query = inputs.next().expect("attention has a query");
    let value = inputs.next().expect("attention has a value");
    let key = inputs.next().unwrap_or_else(|| value.clone());
    let visible = visible(layer, &query, &value, &key);
    let [query, key, value] = [(query, 0), (key, 1), (value, 2)]
        .map(|(x, projection)| heads(layer, x.tensor(), projection, weights));

    let scale = (layer.key_size as f64).sqrt().recip();
    let mut scores = (query * scale).matmul(key.swap_dims(2, 3));
    if let Some(visible) = visible {
        let hidden = visible.lower_elem(0.5).unsqueeze_dim::<4>(1).expand(scores.dims());
        scores = scores.mask_fill(hidden, HIDDEN);
    }
    let shares = Value::of(softmax(scores, 3));
    let shares: Tensor<4> =
        noise::dropout(layer.dropout, &[false; 3], false, shares, mode).tensor();
    let drawn = shares.matmul(value).swap_dims(1, 2);

    let [batch, steps, heads, size] = drawn.dims();
    let (kernel, bias) = arrays::<1>(layer, 3, weights);
    let out = kernel.dims()[2];
    let mut rows =
        drawn.reshape([batch * steps, heads * size]).matmul(kernel.reshape([heads * size, out]));
    if let Some(bias) = bias {
        rows = rows + bias.unsqueeze();
    }
    Value::of(rows.reshape([batch, steps, out]))
}

/// The i-th projection's kernel of three axes, and its bias.
fn arrays<const D: usize>(
    layer: &MultiHeadAttention,
    i: usize,
    weights: &Weights<'_>,
) -> (Tensor<3>, Option<Tensor<D>>) {
    let first = if layer.has_bias { 2 * i } else { i };
    (weights.get(first), layer.has_bias.then(|| weights.get(first + 1)))
}

/// The i-th projection of (batch, steps, dim): (batch, heads, steps, size).
fn heads(layer: &MultiHeadAttention, x: Tensor<3>, i: usize, weights: &Weights<'_>) -> Tensor<4> {
    let [batch, steps, width] = x.dims();
    let (kernel, bias) = arrays::<2>(layer, i, weights);
    let [_, heads, size] = kernel.dims();
    let mut rows = x.reshape([batch * steps, width]).matmul(kernel.reshape([width, heads * size]));
    if let Some(bias) = bias {
        rows = rows + bias.reshape([1, heads * size]);
    }
    rows.reshape([batch, steps, heads, size]).swap_dims(1, 2)
}

/// Which of the value's steps each of the query's sees: 1 or 0, (batch or 1, query's, value's).
fn visible(
    layer: &MultiHeadAttention,
    query: &Value,
    value: &Value,
    key: &Value,
) -> Option<Tensor<3>> {
    let of_query = query.mask.clone().map(|mask| mask.unsqueeze_dim::<3>(2));
    let of_value = value.mask.clone().map(|mask| mask.unsqueeze_dim::<3>(1));
    let of_key = key.mask.clone().map(|mask| mask.unsqueeze_dim::<3>(1));
    let causal = layer.is_causal.then(|| {
        let steps = [query.shape()[0], value.shape()[0]];
        let device = query.clone().rows().device();
        let later = Tensor::<2, Bool>::tril_mask(steps, 0, &device);
        later.bool_not().float().unsqueeze::<3>()
    });
    [of_query, of_value, of_key, causal].into_iter().flatten().reduce(|all, mask| all * mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::check::floats;
    use crate::compute::probe::{Arrays, assert_gives, check_gradients, infer, train, value};
    use burn::tensor::Device;

    const SELF: [&[usize]; 8] =
        [&[4, 2, 2], &[2, 2], &[4, 2, 2], &[2, 2], &[4, 2, 2], &[2, 2], &[2, 2, 4], &[4]];
    /// Of queries of 4, values of 3 and keys of 3 or 5 elements.
    const CROSS: [&[usize]; 8] =
        [&[4, 2, 2], &[2, 2], &[3, 2, 2], &[2, 2], &[3, 2, 2], &[2, 2], &[2, 2, 4], &[4]];
    const KEYED: [&[usize]; 8] =
        [&[4, 2, 2], &[2, 2], &[5, 2, 2], &[2, 2], &[3, 2, 2], &[2, 2], &[2, 2, 4], &[4]];
    const UNBIASED: [&[usize]; 4] = [&[4, 2, 2], &[5, 2, 2], &[3, 2, 3], &[2, 3, 4]];

    const PLAIN: MultiHeadAttention = MultiHeadAttention {
        heads: 2,
        key_size: 2,
        value_size: 2,
        has_bias: true,
        dropout: 0.0,
        is_causal: false,
    };
    const CAUSAL: MultiHeadAttention = MultiHeadAttention { is_causal: true, ..PLAIN };

    fn query(device: &Device) -> Value {
        value(0, &[3, 4], device)
    }

    fn masked<const T: usize>(value: Value, mask: [[f32; T]; 2], device: &Device) -> Value {
        value.with_mask(Some(Tensor::from_floats(mask, device)))
    }

    /// Computed by Keras 3.15 on JAX.
    #[test]
    #[rustfmt::skip]
    fn attention_gives_what_keras_gives() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let check = |name, layer: MultiHeadAttention, arrays: &[&[usize]], inputs, expected: &[f32]| {
                let arrays = Arrays::of(arrays, &device);
                let made = infer(|mode| attention(&layer, inputs, &arrays.weights(), mode));
                assert_eq!(made.shape(), [3, 4]);
                assert_gives(name, &made, expected);
            };
            let (query, device) = (query(&device), &device);
            let (given, key) = (value(1, &[2, 3], device), value(2, &[2, 5], device));
            let seen = masked(query.clone(), [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], device);
            check("self", PLAIN, &SELF, vec![query.clone(); 2], &[
                0.1177722, 0.7155123, -1.092604, -0.4948637, -0.076028, 0.5197979, -1.1982814, -0.6024555, 0.1152824, 0.6935089, -1.1453563, -0.5671299,
                -0.5266764, -0.1246254, -0.5189618, -0.1169109, -0.295742, -0.0034819, -0.8727046, -0.5804445, -0.3872344, 0.1358513, -0.6146454, -0.0915597,
            ]);
            check("causal", CAUSAL, &SELF, vec![query.clone(); 2], &[
                -0.6313878, -0.138844, -1.672744, -1.1802001, 0.4233885, 0.8778156, -1.2526689, -0.7982417, 0.1152824, 0.6935089, -1.1453563, -0.5671299,
                -0.5946478, -0.0426818, -1.503234, -0.9512681, 0.4533209, 0.9568481, -1.1057574, -0.6022302, -0.3872344, 0.1358513, -0.6146454, -0.0915597,
            ]);
            check("causal, masked", CAUSAL, &SELF, vec![seen.clone(); 2], &[
                -0.6313878, -0.138844, -1.672744, -1.1802001, 0.4233885, 0.8778156, -1.2526689, -0.7982417, -0.0258093, 0.5203725, -1.2372144, -0.6910326,
                -0.3112664, -0.0049309, -1.0534971, -0.7471616, 1.0801377, 1.563432, -0.85157, -0.3682758, -0.2227594, 0.1456355, -0.3359234, 0.0324714,
            ]);
            let unbiased = MultiHeadAttention { value_size: 3, has_bias: false, ..PLAIN };
            check("keyed, without biases", unbiased, &UNBIASED, vec![query.clone(), given.clone(), key.clone()], &[
                -0.0311674, 0.2200897, -0.1141659, -0.1471923, 0.1016617, -0.1278637, -0.1221932, 0.1373232, -0.1048947, 0.1770218, 0.0930957, -0.1724306,
                0.0889288, -0.5790624, 0.3920792, 0.2902654, 0.0845487, -0.5860197, 0.3901435, 0.3082487, 0.0883768, -0.5949578, 0.4033656, 0.3022561,
            ]);
            check("cross, causal", CAUSAL, &CROSS, vec![query, given.clone()], &[
                -0.813157, -0.4285049, -1.2524611, -0.8678091, 0.3698255, 0.9265683, -1.0001129, -0.4433699, 0.055297, 0.7051866, -0.7686683, -0.1187788,
                -0.845178, -0.47762, -1.165484, -0.7979259, -0.0712571, 0.3770292, -1.1447779, -0.6964917, 0.0402452, 0.5656857, -1.3785337, -0.853093,
            ]);
            let given = masked(given, [[1.0, 0.0], [1.0, 1.0]], device);
            let key = masked(key, [[1.0, 1.0], [0.0, 1.0]], device);
            check("all masked", PLAIN, &KEYED, vec![seen, given, key], &[
                -0.813157, -0.4285049, -1.2524611, -0.8678091, -0.813157, -0.4285049, -1.2524611, -0.8678091, 0.2223909, 0.7354885, -1.0792716, -0.5661739,
                0.1294965, 0.680149, -1.433601, -0.8829485, 1.104171, 1.837918, -1.7017181, -0.967971, 1.104171, 1.837918, -1.7017181, -0.967971,
            ]);
        }
    }

    #[test]
    fn gradients_are_the_slopes() {
        let dropped = MultiHeadAttention { dropout: 0.3, ..CAUSAL };
        check_gradients(&SELF, |device, weights, mode| {
            let query = masked(query(device), [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], device);
            vec![attention(&dropped, vec![query.clone(), query], weights, mode)]
        });
        check_gradients(&CROSS, |device, weights, mode| {
            let inputs = vec![query(device), value(1, &[2, 3], device)];
            vec![attention(&PLAIN, inputs, weights, mode)]
        });
    }

    /// All weights are 1 and all steps alike, so that the output shows what was dropped.
    #[test]
    fn shares_are_dropped_in_training_only() {
        let device = Device::flex();
        let layer = MultiHeadAttention {
            heads: 1,
            key_size: 1,
            value_size: 1,
            has_bias: false,
            dropout: 0.5,
            is_causal: false,
        };
        let arrays = Arrays::ones(&[&[1_usize, 1, 1][..]; 4], &device);
        let steps = Value::of(Tensor::<3>::ones([16, 2, 1], &device));
        let run = |mode: &mut Mode<'_>| -> Vec<f32> {
            let inputs = vec![steps.clone(), steps.clone()];
            let made = attention(&layer, inputs, &arrays.weights(), mode);
            floats(made.rows())
        };
        assert!(infer(run).iter().all(|&output| output == 1.0));
        let outputs = train(3, run);
        assert!([0.0, 1.0, 2.0].iter().all(|sum| outputs.contains(sum)), "{outputs:?}");
    }
}
