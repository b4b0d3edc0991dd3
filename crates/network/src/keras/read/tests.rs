//! What each class and its options give, by Keras 2.15 and 3.15 themselves, and what is refused.

use std::path::Path;

use arrowhop_types::Problems;
use serde_json::{Value, json};

use super::{Context, Fitted, elements, read_layer};
use crate::activation::Activation;
use crate::fields::Fields;
use crate::initializer::{Distribution, Fan, Initializer};
use crate::layer::{BidirectionalMerge, MaskRule, Operation};
use crate::regularizer::Regularizer;

/// An image of odd sides.
const IMAGE: &[usize] = &[7, 6, 4];
/// Steps of a sequence.
const STEPS: &[usize] = &[6, 3];

fn read_by(
    keras_major: u32,
    class: &str,
    config: &Value,
    inputs: Option<&[&[usize]]>,
) -> Result<Option<Fitted>, Problems> {
    let mut problems = Problems::new();
    let shapes: Option<Vec<_>> =
        inputs.map(|inputs| inputs.iter().map(|shape| shape.to_vec()).collect());
    let mut fields = Fields::of(config, "/c".into(), &mut problems).unwrap();
    let context = Context { keras_major, is_trainable: true };
    let fitted = read_layer(class, &mut fields, shapes.as_deref(), &context);
    fields.finish(&mut problems);
    assert!(fitted.is_none() || problems.is_empty(), "{class}: fitted in spite of {problems}");
    problems.or(fitted)
}

fn read(class: &str, config: &Value, inputs: &[&[usize]]) -> Fitted {
    let read = read_by(2, class, config, Some(inputs));
    let fitted = read.unwrap_or_else(|problems| panic!("{class} {config} {inputs:?}: {problems}"));
    fitted.unwrap_or_else(|| panic!("{class} {config}: nothing, and no problem"))
}

/// `kernel [3, 5], bias [5]`.
fn shown(fitted: &Fitted) -> String {
    let weights = fitted.weights.iter().map(|weight| format!("{} {:?}", weight.name, weight.shape));
    weights.collect::<Vec<_>>().join(", ")
}

/// Rows of a table whose columns stand between bars.
fn rows<const COLUMNS: usize>(
    table: &'static str,
) -> impl Iterator<Item = [&'static str; COLUMNS]> {
    table.lines().filter(|line| !line.is_empty()).map(|line| {
        let columns: Vec<&str> = line.split(" |").map(str::trim).collect();
        columns.try_into().unwrap_or_else(|_| panic!("not {COLUMNS} columns: {line}"))
    })
}

fn shapes(json: &str) -> Vec<Vec<usize>> {
    let lists: Value = serde_json::from_str(json).unwrap();
    let size = |size: &Value| usize::try_from(size.as_u64().unwrap()).unwrap();
    let shape = |shape: &Value| shape.as_array().unwrap().iter().map(size).collect();
    lists.as_array().unwrap().iter().map(shape).collect()
}

/// The value of `2*3+4*5`.
fn value_of(sum: &str) -> u64 {
    let product = |product: &str| product.split('*').map(|n| n.parse::<u64>().unwrap()).product();
    sum.split('+').map(product).collect::<Vec<u64>>().iter().sum()
}

/// Class, options, inputs, outputs, weights, multiply-accumulates.
const FITS: &str = r#"
Conv1D | {"filters": 6, "kernel_size": 3, "padding": "causal", "dilation_rate": 2} | [[9,4]] | [[9,6]] | kernel [3, 4, 6], bias [6] | 9*3*4*6
Conv2D | {"filters": 6, "kernel_size": 3, "strides": [2, 1], "padding": "SAME"} | [[7,6,4]] | [[4,6,6]] | kernel [3, 3, 4, 6], bias [6] | 4*6*9*4*6
Convolution2D | {"filters": 6, "kernel_size": 3, "groups": 2, "use_bias": false} | [[7,6,4]] | [[5,4,6]] | kernel [3, 3, 2, 6] | 5*4*9*2*6
Conv2D | {"filters": 6, "kernel_size": 3, "data_format": "channels_first"} | [[7,6,4]] | [[6,4,2]] | kernel [3, 3, 7, 6], bias [6] | 4*2*9*7*6
Conv3D | {"filters": 6, "kernel_size": [1, 2, 3]} | [[4,4,4,2]] | [[4,3,2,6]] | kernel [1, 2, 3, 2, 6], bias [6] | 24*6*2*6
Conv1DTranspose | {"filters": 6, "kernel_size": 3, "strides": 2} | [[5,4]] | [[11,6]] | kernel [3, 6, 4], bias [6] | 5*3*4*6
Conv2DTranspose | {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"} | [[7,6,4]] | [[14,12,6]] | kernel [3, 3, 6, 4], bias [6] | 42*9*4*6
Conv2DTranspose | {"filters": 6, "kernel_size": 3, "strides": [2, 3], "output_padding": [1, 0], "data_format": "channels_first"} | [[7,6,4]] | [[6,14,12]] | kernel [3, 3, 6, 7], bias [6] | 24*9*7*6
Conv3DTranspose | {"filters": 6, "kernel_size": 3, "output_padding": null} | [[2,3,4,5]] | [[4,5,6,6]] | kernel [3, 3, 3, 6, 5], bias [6] | 24*27*5*6
DepthwiseConv1D | {"kernel_size": [3], "depth_multiplier": 2} | [[9,4]] | [[7,8]] | depthwise_kernel [3, 4, 2], bias [8] | 7*3*8
DepthwiseConv2D | {"kernel_size": 3, "strides": 2, "padding": "same", "use_bias": false, "groups": 1} | [[7,6,4]] | [[4,3,4]] | depthwise_kernel [3, 3, 4, 1] | 12*9*4
SeparableConv1D | {"filters": 6, "kernel_size": 3, "padding": "causal"} | [[9,4]] | [[9,6]] | depthwise_kernel [3, 4, 1], pointwise_kernel [1, 4, 6], bias [6] | 9*3*4+9*4*6
SeparableConv2D | {"filters": 6, "kernel_size": 3, "depth_multiplier": 2} | [[7,6,4]] | [[5,4,6]] | depthwise_kernel [3, 3, 4, 2], pointwise_kernel [1, 1, 8, 6], bias [6] | 20*9*8+20*8*6
MaxPooling1D | {} | [[7,4]] | [[3,4]] | | 0
MaxPooling2D | {"pool_size": [3, 2], "strides": null, "padding": "same"} | [[7,6,4]] | [[3,3,4]] | | 0
MaxPool2D | {"data_format": "channels_first"} | [[7,6,4]] | [[7,3,2]] | | 0
AveragePooling3D | {"pool_size": 2, "strides": [1, 2, 1]} | [[4,4,4,2]] | [[3,2,3,2]] | | 0
GlobalAveragePooling1D | {"keepdims": true} | [[6,3]] | [[1,3]] | | 0
GlobalMaxPooling2D | {"data_format": "channels_first"} | [[7,6,4]] | [[7]] | | 0
GlobalMaxPooling3D | {"data_format": "channels_first", "keepdims": true} | [[2,3,4,5]] | [[2,1,1,1]] | | 0
Flatten | {} | [[7,6,4]] | [[168]] | | 0
Reshape | {"target_shape": [2, -1, 7]} | [[7,6,4]] | [[2,12,7]] | | 0
Reshape | {"target_shape": [168]} | [[7,6,4]] | [[168]] | | 0
Permute | {"dims": [3, 1, 2]} | [[7,6,4]] | [[4,7,6]] | | 0
RepeatVector | {"n": 3} | [[5]] | [[3,5]] | | 0
ZeroPadding1D | {"padding": [1, 2]} | [[6,3]] | [[9,3]] | | 0
ZeroPadding2D | {} | [[7,6,4]] | [[9,8,4]] | | 0
ZeroPadding2D | {"padding": [[0, 1], [2, 3]], "data_format": "channels_first"} | [[7,6,4]] | [[7,7,9]] | | 0
ZeroPadding3D | {"padding": [1, 2, 3]} | [[2,3,4,5]] | [[4,7,10,5]] | | 0
Cropping1D | {} | [[6,3]] | [[4,3]] | | 0
Cropping2D | {} | [[7,6,4]] | [[7,6,4]] | | 0
Cropping2D | {"cropping": [[1, 0], [2, 3]]} | [[7,6,4]] | [[6,1,4]] | | 0
UpSampling1D | {"size": 3} | [[6,3]] | [[18,3]] | | 0
UpSampling2D | {"interpolation": "bilinear", "size": [1, 3]} | [[7,6,4]] | [[7,18,4]] | | 0
UpSampling3D | {"data_format": "channels_first"} | [[2,3,4,5]] | [[2,6,8,10]] | | 0
Add | {} | [[4],[7,1,4],[1,6,1]] | [[7,6,4]] | | 0
Subtract | {} | [[6,3],[6,3]] | [[6,3]] | | 0
Maximum | {} | [[6,3]] | [[6,3]] | | 0
Concatenate | {} | [[6,3],[6,5]] | [[6,8]] | | 0
Concatenate | {"axis": 1} | [[6,3],[2,3],[6,3]] | [[14,3]] | | 0
Dot | {"axes": 1} | [[3],[3]] | [[1]] | | 0
Dot | {"axes": [2, -1]} | [[6,3],[4,3]] | [[6,4]] | | 0
Dot | {"axes": [1, 2]} | [[3],[5,3]] | [[5]] | | 0
Dense | {"units": 5} | [[7,6,4]] | [[7,6,5]] | kernel [4, 5], bias [5] | 7*6*4*5
PReLU | {"shared_axes": [1, 2]} | [[7,6,4]] | [[7,6,4]] | alpha [1, 1, 4] | 0
BatchNormalization | {"axis": [1], "scale": false} | [[7,6,4]] | [[7,6,4]] | beta [7], moving_mean [7], moving_variance [7] | 0
LayerNormalization | {"axis": [3, 1]} | [[7,6,4]] | [[7,6,4]] | gamma [7, 4], beta [7, 4] | 0
GroupNormalization | {"groups": -1, "center": false} | [[7,6,4]] | [[7,6,4]] | gamma [4] | 0
Rescaling | {"scale": 0.5} | [[7,6,4]] | [[7,6,4]] | | 0
Embedding | {"input_dim": 10, "output_dim": 4, "input_length": 6} | [[6]] | [[6,4]] | embeddings [10, 4] | 0
SimpleRNN | {"units": 5, "use_bias": false} | [[6,3]] | [[5]] | simple_rnn_cell/kernel [3, 5], simple_rnn_cell/recurrent_kernel [5, 5] | 6*3*5+6*5*5
LSTM | {"units": 5, "return_sequences": true, "return_state": true} | [[6,3],[5],[5]] | [[6,5],[5],[5]] | lstm_cell/kernel [3, 20], lstm_cell/recurrent_kernel [5, 20], lstm_cell/bias [20] | 6*3*20+6*5*20
GRU | {"units": 5} | [[6,3]] | [[5]] | gru_cell/kernel [3, 15], gru_cell/recurrent_kernel [5, 15], gru_cell/bias [2, 15] | 6*3*15+6*5*15
GRU | {"units": 5, "reset_after": false, "return_state": true} | [[6,3]] | [[5],[5]] | gru_cell/kernel [3, 15], gru_cell/recurrent_kernel [5, 15], gru_cell/bias [15] | 6*3*15+6*5*15
Bidirectional | {"layer": {"class_name": "GRU", "config": {"name": "g", "units": 5, "use_bias": false, "return_state": true}}, "merge_mode": null} | [[6,3]] | [[5],[5],[5],[5]] | forward_g/gru_cell/kernel [3, 15], forward_g/gru_cell/recurrent_kernel [5, 15], backward_g/gru_cell/kernel [3, 15], backward_g/gru_cell/recurrent_kernel [5, 15] | 12*3*15+12*5*15
Bidirectional | {"layer": {"class_name": "LSTM", "config": {"units": 1}}} | [[6,3],[1],[1],[1],[1]] | [[2]] | forward_lstm/lstm_cell/kernel [3, 4], forward_lstm/lstm_cell/recurrent_kernel [1, 4], forward_lstm/lstm_cell/bias [4], backward_lstm/lstm_cell/kernel [3, 4], backward_lstm/lstm_cell/recurrent_kernel [1, 4], backward_lstm/lstm_cell/bias [4] | 12*3*4+12*4
TimeDistributed | {"layer": {"class_name": "Dense", "config": {"units": 5}}} | [[2,7,4]] | [[2,7,5]] | kernel [4, 5], bias [5] | 14*4*5
TimeDistributed | {"layer": {"class_name": "TimeDistributed", "config": {"layer": {"class_name": "Dense", "config": {"units": 5}}}}} | [[2,7,4]] | [[2,7,5]] | kernel [4, 5], bias [5] | 14*4*5
MultiHeadAttention | {"num_heads": 2, "key_dim": 4, "value_dim": 5} | [[6,3],[7,8],[7,9]] | [[6,3]] | query/kernel [3, 2, 4], query/bias [2, 4], key/kernel [9, 2, 4], key/bias [2, 4], value/kernel [8, 2, 5], value/bias [2, 5], attention_output/kernel [2, 5, 3], attention_output/bias [3] | 6*3*8+7*9*8+7*8*10+6*10*3
MultiHeadAttention | {"num_heads": 1, "key_dim": 2, "use_bias": false, "attention_axes": [1]} | [[6,3],[6,3]] | [[6,3]] | query/kernel [3, 1, 2], key/kernel [3, 1, 2], value/kernel [3, 1, 2], attention_output/kernel [1, 2, 3] | 4*6*3*2
"#;

#[test]
fn each_class_has_keras_s_shapes_and_weights() {
    for [class, config, inputs, outputs, weights, macs] in rows(FITS) {
        let inputs = shapes(inputs);
        let inputs: Vec<&[usize]> = inputs.iter().map(Vec::as_slice).collect();
        let fitted = read(class, &serde_json::from_str(config).unwrap(), &inputs);
        assert_eq!(fitted.outputs, shapes(outputs), "{class} {config}");
        assert_eq!(shown(&fitted), weights, "{class} {config}");
        assert_eq!(fitted.macs, value_of(macs), "{class} {config}");
    }
}

/// Keras 3 writes the names with the directions before, and the backward layer, too.
#[test]
fn both_directions_may_be_written() {
    let direction = |name: &str, units: usize, backwards: bool| {
        json!({"class_name": "SimpleRNN", "config": {"name": name, "units": units,
            "go_backwards": backwards, "use_bias": false, "return_sequences": true}})
    };
    let config = json!({"layer": direction("forward_a", 2, false),
        "backward_layer": direction("backward_a", 3, true)});
    let fitted = read_by(3, "Bidirectional", &config, Some(&[STEPS])).unwrap().unwrap();
    assert_eq!(fitted.outputs, [[6, 5]]);
    let names: Vec<_> = fitted.weights.iter().map(|weight| weight.name.as_str()).collect();
    assert_eq!(names[0], "forward_a/simple_rnn_cell/kernel");
    assert_eq!(names[2], "backward_a/simple_rnn_cell/kernel");
    let Operation::Bidirectional { forward, backward, merge } = &fitted.operation else {
        panic!("{fitted:?}")
    };
    assert_eq!(*merge, BidirectionalMerge::Concatenate);
    assert!(forward.zeroes_hidden_steps && backward.zeroes_hidden_steps);
    assert_eq!((forward.goes_backwards, backward.goes_backwards), (false, true));
    let once = json!({"layer": direction("a", 2, true)});
    let Operation::Bidirectional { forward, backward, .. } =
        read("Bidirectional", &once, &[STEPS]).operation
    else {
        panic!("it is bidirectional")
    };
    assert_eq!((forward.goes_backwards, backward.goes_backwards), (true, false));
    let prefixed =
        read("Bidirectional", &json!({"layer": direction("forward_a", 2, false)}), &[STEPS]);
    assert_eq!(prefixed.weights[0].name, "forward_forward_a/simple_rnn_cell/kernel");
}

#[test]
fn keras_3_gives_no_mask_beside_initial_states() {
    let direction = json!({"class_name": "GRU", "config": {"units": 2}});
    let ignores = |major, class, config: &Value, states: usize| {
        let inputs = [&[STEPS][..], &vec![&[2][..]; states]].concat();
        match read_by(major, class, config, Some(&inputs)).unwrap().unwrap().operation {
            Operation::Recurrent(layer) => layer.ignores_mask,
            Operation::Bidirectional { forward, backward, .. } => {
                assert_eq!(forward.ignores_mask, backward.ignores_mask);
                forward.ignores_mask
            }
            other => panic!("{other:?}"),
        }
    };
    let (one, both) = (&direction["config"], &json!({"layer": direction}));
    for (class, config, states) in [("GRU", one, 1), ("Bidirectional", both, 2)] {
        assert!(ignores(3, class, config, states));
        assert!(!ignores(3, class, config, 0));
        assert!(!ignores(2, class, config, states));
    }
}

#[test]
fn activation_layers_are_functions() {
    let bounded = |max, slope, threshold| Activation::BoundedRelu { max, slope, threshold };
    let layer = json!({"class_name": "LeakyReLU", "config": {"negative_slope": 0.1}});
    let table = [
        ("Activation", json!({"activation": "gelu"}), Activation::Gelu),
        ("Activation", json!({"activation": layer}), Activation::LeakyRelu { slope: 0.1 }),
        ("ReLU", json!({"max_value": null}), Activation::Relu),
        ("ReLU", json!({"max_value": 6.0}), bounded(Some(6.0), 0.0, 0.0)),
        ("ReLU", json!({"negative_slope": 0.25}), Activation::LeakyRelu { slope: 0.25 }),
        ("ReLU", json!({"negative_slope": 0.5, "threshold": 1}), bounded(None, 0.5, 1.0)),
        ("LeakyReLU", json!({}), Activation::LeakyRelu { slope: 0.3 }),
        ("LeakyReLU", json!({"alpha": 0.2}), Activation::LeakyRelu { slope: 0.2 }),
        ("LeakyReLU", json!({"negative_slope": 0.2}), Activation::LeakyRelu { slope: 0.2 }),
        ("ELU", json!({"alpha": 0.5}), Activation::Elu { alpha: 0.5 }),
        ("ThresholdedReLU", json!({"theta": 0.9}), bounded(None, 0.0, 0.9)),
        ("Softmax", json!({"axis": [-1]}), Activation::Softmax),
    ];
    for (class, config, expected) in table {
        let fitted = read(class, &config, &[IMAGE]);
        assert_eq!((fitted.operation, fitted.activation), (Operation::Identity, expected));
    }
    let over_height = read("Softmax", &json!({"axis": 1}), &[IMAGE]);
    assert_eq!(over_height.operation, Operation::SoftmaxOver { axis: 0 });
}

#[test]
fn noise_is_shared_where_the_options_say_so() {
    let dropout = |shared_axes: &[bool], shared_batch| Operation::Dropout {
        rate: 0.5,
        shared_axes: shared_axes.to_vec(),
        shared_batch,
    };
    let with = |shape: Value| json!({"rate": 0.5, "noise_shape": shape});
    let table = [
        ("Dropout", with(json!(null)), dropout(&[false; 3], false)),
        ("Dropout", with(json!([null, 1, null, 4])), dropout(&[true, false, false], false)),
        ("Dropout", with(json!([1, 7, 6, 1])), dropout(&[false, false, true], true)),
        ("Dropout", json!({"rate": 0}), Operation::Identity),
        ("SpatialDropout2D", json!({"rate": 0.5}), dropout(&[true, true, false], false)),
        (
            "SpatialDropout2D",
            json!({"rate": 0.5, "data_format": "channels_first"}),
            dropout(&[false, true, true], false),
        ),
        ("GaussianNoise", json!({"stddev": 0.1}), Operation::GaussianNoise { deviation: 0.1 }),
        ("GaussianDropout", json!({"rate": 0.1}), Operation::GaussianDropout { rate: 0.1 }),
        ("AlphaDropout", json!({"rate": 0.1}), Operation::AlphaDropout { rate: 0.1 }),
        ("AlphaDropout", json!({"rate": 0.0}), Operation::Identity),
        ("Identity", json!({}), Operation::Identity),
    ];
    for (class, config, expected) in table {
        assert_eq!(read(class, &config, &[IMAGE]).operation, expected, "{class} {config}");
    }
}

/// Checked against Keras 2.15 for axes first and last of inputs of all ranks.
#[test]
fn images_and_volumes_have_unbiased_moving_variances_in_keras_2() {
    let of = |major, axis: i64, input: &[usize]| {
        let fitted = read_by(major, "BatchNormalization", &json!({"axis": axis}), Some(&[input]));
        match fitted.unwrap().unwrap().operation {
            Operation::BatchNormalization(normalization) => normalization.is_unbiased,
            other => panic!("{other:?}"),
        }
    };
    assert!(of(2, -1, IMAGE) && of(2, 1, IMAGE) && of(2, 3, IMAGE));
    assert!(of(2, -1, &[2, 3, 4, 5]) && of(2, 1, &[2, 3, 4, 5]));
    assert!(!of(2, 2, IMAGE) && !of(2, -1, STEPS) && !of(2, -1, &[3]));
    assert!(!of(2, 3, &[2, 3, 4, 5]) && !of(3, -1, IMAGE));
}

#[test]
fn frozen_layers_keep_their_weights_and_statistics() {
    let trainable = |config: Value| {
        let fitted = read("BatchNormalization", &config, &[STEPS]);
        let Operation::BatchNormalization(normalization) = &fitted.operation else { panic!() };
        let weights = fitted.weights.iter().map(|weight| weight.is_trainable).collect::<Vec<_>>();
        (normalization.is_frozen, weights)
    };
    assert_eq!(trainable(json!({})), (false, vec![true, true, false, false]));
    assert_eq!(trainable(json!({"trainable": false})), (true, vec![false; 4]));
    let inner = json!({"class_name": "Dense", "config": {"units": 2, "trainable": false}});
    let wrapped = read("TimeDistributed", &json!({"layer": inner}), &[STEPS]);
    assert!(wrapped.weights.iter().all(|weight| !weight.is_trainable));
    let inner = json!({"class_name": "GRU", "config": {"units": 2}});
    let wrapped = json!({"layer": inner, "trainable": false});
    let wrapped = read("Bidirectional", &wrapped, &[STEPS]);
    assert!(wrapped.weights.iter().all(|weight| !weight.is_trainable));
}

#[test]
fn masks_go_where_keras_lets_them() {
    let gru = |sequences: bool| json!({"class_name": "GRU", "config": {"units": 2, "return_sequences": sequences}});
    let embedding = |zero: bool| json!({"input_dim": 9, "output_dim": 2, "mask_zero": zero});
    let dense = json!({"class_name": "Dense", "config": {"units": 2}});
    let table: [(&str, Value, &[&[usize]], MaskRule); 18] = [
        ("Embedding", embedding(true), &[&[6]], MaskRule::Make),
        ("Embedding", embedding(false), &[&[6]], MaskRule::Drop),
        ("Masking", json!({}), &[STEPS], MaskRule::Make),
        ("Dense", json!({"units": 2}), &[STEPS], MaskRule::Pass),
        ("Activation", json!({"activation": "tanh"}), &[STEPS], MaskRule::Pass),
        ("Dropout", json!({"rate": 0.5}), &[STEPS], MaskRule::Pass),
        ("BatchNormalization", json!({}), &[STEPS], MaskRule::Pass),
        ("LayerNormalization", json!({}), &[STEPS], MaskRule::Pass),
        ("TimeDistributed", json!({"layer": dense}), &[STEPS], MaskRule::Pass),
        ("Bidirectional", json!({"layer": gru(true)}), &[STEPS], MaskRule::Pass),
        ("Bidirectional", json!({"layer": gru(false)}), &[STEPS], MaskRule::Consume),
        ("LSTM", json!({"units": 2}), &[STEPS], MaskRule::Consume),
        ("GlobalAveragePooling1D", json!({}), &[STEPS], MaskRule::Consume),
        ("GlobalMaxPooling1D", json!({}), &[STEPS], MaskRule::Drop),
        ("GlobalAveragePooling2D", json!({}), &[IMAGE], MaskRule::Drop),
        ("Add", json!({}), &[STEPS, STEPS], MaskRule::All),
        ("Concatenate", json!({"axis": 1}), &[STEPS, STEPS], MaskRule::Join),
        ("Dot", json!({"axes": 2}), &[STEPS, STEPS], MaskRule::Drop),
    ];
    for (class, config, inputs, expected) in table {
        assert_eq!(read(class, &config, inputs).mask, expected, "{class} {config}");
    }
    let sum = read_by(3, "Add", &json!({}), Some(&[STEPS, STEPS])).unwrap().unwrap();
    assert_eq!(sum.mask, MaskRule::Any);
}

#[test]
fn initializers_and_regularizers_are_read_in_all_their_forms() {
    let scaled = |scale, fan, distribution| Initializer::Scaled { scale, fan, distribution };
    let object = |class: &str, config: Value| json!({"class_name": class, "config": config});
    let scaling = json!({"scale": 2.0, "mode": "fan_in", "distribution": "normal", "seed": null});
    let initializers = [
        (json!("zeros"), Initializer::Constant(0.0)),
        (object("Constant", json!({"value": 0.5})), Initializer::Constant(0.5)),
        (json!("uniform"), Initializer::Uniform { low: -0.05, high: 0.05 }),
        (json!({"class_name": "RandomNormal"}), Initializer::Normal { mean: 0.0, deviation: 0.05 }),
        (
            object("TruncatedNormal", json!({"stddev": 0.1})),
            Initializer::TruncatedNormal { mean: 0.0, deviation: 0.1 },
        ),
        (json!("glorot_normal"), scaled(1.0, Fan::Average, Distribution::TruncatedNormal)),
        (json!("HeUniform"), scaled(2.0, Fan::In, Distribution::Uniform)),
        (json!("lecun_normal"), scaled(1.0, Fan::In, Distribution::TruncatedNormal)),
        (object("VarianceScaling", scaling), scaled(2.0, Fan::In, Distribution::TruncatedNormal)),
        (
            object("OrthogonalInitializer", json!({"gain": 2})),
            Initializer::Orthogonal { gain: 2.0 },
        ),
        (json!("identity"), Initializer::Identity { gain: 1.0 }),
    ];
    for (value, expected) in initializers {
        let fitted = read("Dense", &json!({"units": 2, "kernel_initializer": value}), &[&[3]]);
        assert_eq!(fitted.weights[0].initializer, expected, "{value}");
    }
    let regularizers = [
        (json!(null), None),
        (json!("l2"), Some(Regularizer { l1: 0.0, l2: 0.01 })),
        (json!("l1_l2"), Some(Regularizer { l1: 0.01, l2: 0.01 })),
        (object("L1", json!({"l1": 0.5})), Some(Regularizer { l1: 0.5, l2: 0.0 })),
        (object("L1L2", json!({"l1": 0.0, "l2": 0.25})), Some(Regularizer { l1: 0.0, l2: 0.25 })),
        (object("L1L2", json!({"l1": 0.0, "l2": 0.0})), None),
    ];
    for (value, expected) in regularizers {
        let fitted = read("Dense", &json!({"units": 2, "bias_regularizer": value}), &[&[3]]);
        let found: Vec<_> = fitted.weights.iter().map(|weight| weight.regularizer).collect();
        assert_eq!(found, [None, expected], "{value}");
    }
}

/// Each array follows the options of its own name.
#[test]
fn each_array_has_its_own_options() {
    let table: [(&str, Value, &[usize], &[&str]); 7] = [
        (
            "SeparableConv2D",
            json!({"filters": 2, "kernel_size": 1}),
            IMAGE,
            &["depthwise", "pointwise", "bias"],
        ),
        ("DepthwiseConv2D", json!({"kernel_size": 1}), IMAGE, &["depthwise", "bias"]),
        ("GRU", json!({"units": 2}), STEPS, &["kernel", "recurrent", "bias"]),
        ("Embedding", json!({"input_dim": 2, "output_dim": 2}), &[6], &["embeddings"]),
        ("PReLU", json!({}), STEPS, &["alpha"]),
        ("LayerNormalization", json!({}), STEPS, &["gamma", "beta"]),
        (
            "MultiHeadAttention",
            json!({"num_heads": 1, "key_dim": 2}),
            STEPS,
            &["kernel", "bias", "kernel", "bias", "kernel", "bias", "kernel", "bias"],
        ),
    ];
    for (class, mut config, input, options) in table {
        for (number, option) in options.iter().enumerate() {
            let number = options.iter().position(|first| first == option).unwrap_or(number);
            let penalty = json!({"class_name": "L1", "config": {"l1": number + 1}});
            config[format!("{option}_regularizer")] = penalty;
            let value = json!({"class_name": "Constant", "config": {"value": number}});
            config[format!("{option}_initializer")] = value;
        }
        let inputs = if class == "MultiHeadAttention" { vec![input; 2] } else { vec![input] };
        let fitted = read(class, &config, &inputs);
        assert_eq!(fitted.weights.len(), options.len(), "{class}");
        for (weight, option) in fitted.weights.iter().zip(options) {
            let number = options.iter().position(|first| first == option).unwrap() as f64;
            assert_eq!(weight.initializer, Initializer::Constant(number), "{class} {option}");
            assert_eq!(weight.regularizer.unwrap().l1, number + 1.0, "{class} {option}");
        }
    }
    let bias = |extra: bool| {
        let config = json!({"units": 2, "unit_forget_bias": extra});
        read("LSTM", &config, &[STEPS]).weights[2].initializer.clone()
    };
    let zeros = Initializer::Constant(0.0);
    assert_eq!(bias(true), Initializer::OpenForgetGate(Box::new(zeros.clone())));
    assert_eq!(bias(false), zeros);
}

/// Keras's own default options, written out; `None` where the fixtures are not there.
fn default_configs(keras_major: u32) -> Option<Value> {
    let name = format!("keras_oracle/layer_default_configs_keras{keras_major}.json");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures").join(name);
    if !file.exists() {
        println!("skipped: {} is not there", file.display());
        return None;
    }
    Some(serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
}

/// Every option that Keras writes may be missing, but for those that no layer can do without: what
/// Keras writes is our default, too. Six digits are compared: Keras writes some in single precision.
#[test]
fn missing_options_have_keras_s_defaults() {
    for major in [2, 3] {
        let Some(mut configs) = default_configs(major) else { return };
        // The file has these as texts; Keras writes numbers.
        configs["ReLU"]["negative_slope"] = json!(0.0);
        configs["ReLU"]["threshold"] = json!(0.0);
        for (class, config) in configs.as_object().unwrap() {
            let inputs: &[&[usize]] = match class.as_str() {
                "Embedding" | "RepeatVector" | "Reshape" => &[&[4]],
                "MultiHeadAttention" | "Dot" | "Subtract" => &[&[2, 4], &[2, 4]],
                "GroupNormalization" => &[&[6, 32]],
                _ if class.contains("2D") => &[IMAGE],
                _ => &[STEPS],
            };
            let whole = read_by(major, class, config, Some(inputs));
            let whole = whole.unwrap_or_else(|problems| panic!("{major} {class}: {problems}"));
            for key in config.as_object().unwrap().keys() {
                let mut less = config.clone();
                less.as_object_mut().unwrap().remove(key);
                match read_by(major, class, &less, Some(inputs)) {
                    Ok(read) => {
                        let (read, whole) = (format!("{read:.6?}"), format!("{whole:.6?}"));
                        assert_eq!(read, whole, "{major} {class} without {key}");
                    }
                    Err(problems) => {
                        let problem = problems.iter().next().unwrap();
                        assert_eq!(problem.place, format!("/c/{key}"), "{major} {class}");
                        let text = &problem.text;
                        let is_asked_for =
                            text == "is missing" || text.starts_with("must be given");
                        assert!(is_asked_for, "{major} {class} {key}: {text}");
                    }
                }
            }
        }
    }
}

/// Class, options, inputs, place, what is said about it.
const REFUSED: &str = r#"
Conv2D | {"filters": 0, "kernel_size": 3} | [[7,6,4]] | /filters | a whole number from 1 to 16777216, not 0
Conv2D | {"filters": 33554432, "kernel_size": 3} | [[7,6,4]] | /filters | must be a whole number
Conv2D | {"filters": -3, "kernel_size": 3} | [[7,6,4]] | /filters | must be a whole number
Conv2D | {"filters": 2.5, "kernel_size": 3} | [[7,6,4]] | /filters | must be a whole number
Conv2D | {"filters": null, "kernel_size": 3} | [[7,6,4]] | /filters | is missing
Conv2D | {"filters": 4, "kernel_size": [3, 3, 3]} | [[7,6,4]] | /kernel_size | 1 or 2 whole numbers
Conv2D | {"filters": 4, "kernel_size": 9} | [[7,6,4]] | /kernel_size | is larger than its input [7, 6, 4]
Conv2D | {"filters": 4, "kernel_size": 3, "dilation_rate": 5} | [[7,6,4]] | /kernel_size | dilated by [5, 5]
Conv2D | {"filters": 4, "kernel_size": 3, "strides": 0} | [[7,6,4]] | /strides | 1 or 2 whole numbers
Conv2D | {"filters": 4, "kernel_size": 3, "groups": 3} | [[7,6,4]] | /groups | 3 does not divide the 4 filters
Conv2D | {"filters": 4, "kernel_size": 3, "padding": "causal"} | [[7,6,4]] | /padding | "causal" is not supported
Conv2D | {"filters": 4, "kernel_size": 3, "data_format": "NHWC"} | [[7,6,4]] | /data_format | "NHWC" is not channels_last
Conv2D | {"filters": 4, "kernel_size": 3, "trainable": "no"} | [[7,6,4]] | /trainable | must be true or false
Conv2D | {"filters": 4, "kernel_size": 3, "dtype": "float16"} | [[7,6,4]] | /dtype | only float32
Conv2D | {"filters": 4, "kernel_size": 3, "dtype": {"config": {"name": "mixed_bfloat16"}}} | [[7,6,4]] | /dtype | "mixed_bfloat16" is not
Conv2D | {"filters": 4, "kernel_size": 3, "activation": "swoosh"} | [[7,6,4]] | /activation | "swoosh" is not supported
Conv2D | {"filters": 4, "kernel_size": 3, "activation": {"class_name": "PReLU"}} | [[7,6,4]] | /activation | "PReLU" is not
Conv2D | {"filters": 4, "kernel_size": 3, "activation": 7} | [[7,6,4]] | /activation | must be a name or an object, not 7
Conv2D | {"filters": 4, "kernel_size": 3, "kernel_regularizer": {"class_name": "orthogonal_regularizer"}} | [[7,6,4]] | /kernel_regularizer | "orthogonal_regularizer" is not supported, only L1
Conv2D | {"filters": 4, "kernel_size": 3, "kernel_regularizer": {"class_name": "L2", "config": {"l2": -1}}} | [[7,6,4]] | /kernel_regularizer/config/l2 | must not be negative
Conv2D | {"filters": 4, "kernel_size": 3, "bias_constraint": {"class_name": "MaxNorm"}} | [[7,6,4]] | /bias_constraint | constraints are not supported
Conv2D | {"filters": 4, "kernel_size": 3, "activity_regularizer": "l2"} | [[7,6,4]] | /activity_regularizer | penalties on outputs
Conv2D | {"filters": 4, "kernel_size": 3, "kernel_initializer": {"class_name": "Magic"}} | [[7,6,4]] | /kernel_initializer | "Magic" is not supported
Conv2D | {"filters": 4, "kernel_size": 3, "kernel_initializer": {"class_name": "VarianceScaling", "config": {"mode": "fan_up"}}} | [[7,6,4]] | /kernel_initializer/config/mode | "fan_up" is not fan_in, fan_out or fan_avg
Conv2D | {"filters": 4, "kernel_size": 3, "kernel_initializer": "identity"} | [[7,6,4]] | /kernel_initializer | only matrices
Conv2D | {"filters": 4, "kernel_size": 3, "bias_initializer": "orthogonal"} | [[7,6,4]] | /bias_initializer | needs a matrix
Conv2D | {"filters": 4, "kernel_size": 3} | [[6,3]] | | of height and width, and channels, but it has shape [6, 3]
Conv2D | {"filters": 4, "kernel_size": 3} | [[6,3],[6,3]] | | Conv2D takes one input, not 2
Conv2DTranspose | {"filters": 4, "kernel_size": 3, "output_padding": [1, 0]} | [[7,6,4]] | /output_padding | [1, 0] must be less than the strides [1, 1]
Conv2DTranspose | {"filters": 4, "kernel_size": 3, "output_padding": -1} | [[7,6,4]] | /output_padding | must be a whole number
DepthwiseConv2D | {"filters": 4, "kernel_size": 3, "groups": 2} | [[7,6,4]] | /groups | it must be 1
MaxPooling2D | {"pool_size": 7} | [[7,6,4]] | /pool_size | is larger than its input
UpSampling2D | {"interpolation": "bicubic"} | [[7,6,4]] | /interpolation | "bicubic" is not
Cropping2D | {"cropping": [[3, 0], [3, 3]]} | [[7,6,4]] | /cropping | leaves nothing
ZeroPadding2D | {"padding": [1, -1]} | [[7,6,4]] | /padding | must be cells at both ends
Reshape | {"target_shape": [5, -1]} | [[7,6,4]] | /target_shape | [5, -1] does not hold the input's 168
Reshape | {"target_shape": [-1, -1]} | [[7,6,4]] | /target_shape | of which one may be -1
Reshape | {"target_shape": [12]} | [[7,6,4]] | /target_shape | [12] does not hold
Permute | {"dims": [1, 2, 2]} | [[7,6,4]] | /dims | must name each axis
RepeatVector | {"n": 2} | [[6,3]] | | needs a vector
Activation | {} | [[7,6,4]] | /activation | is missing
ReLU | {"threshold": -1} | [[7,6,4]] | /threshold | must not be negative
Softmax | {"axis": [1, 2]} | [[7,6,4]] | /axis | must be one axis, not 2
PReLU | {"shared_axes": [4]} | [[7,6,4]] | /shared_axes | 4 is not an axis
Dropout | {"rate": 1} | [[7,6,4]] | /rate | below 1
Dropout | {} | [[7,6,4]] | /rate | must be given
Dropout | {"rate": 0.1, "noise_shape": [1]} | [[7,6,4]] | /noise_shape | [1] does not fit a batch
Dropout | {"rate": 0.1, "noise_shape": [32, 7, 6, 4]} | [[7,6,4]] | /noise_shape | null or 1 for the batch
AlphaDropout | {"rate": 0.1, "noise_shape": [1]} | [[7,6,4]] | /noise_shape | must be null
GaussianNoise | {"stddev": -0.1} | [[7,6,4]] | /stddev | not be negative
BatchNormalization | {"axis": 0} | [[7,6,4]] | /axis | axis 0 is the batch
BatchNormalization | {"axis": [1, 3]} | [[7,6,4]] | /axis | must be one axis, not 2
BatchNormalization | {"axis": 4} | [[7,6,4]] | /axis | 4 is not an axis
BatchNormalization | {"renorm": true} | [[7,6,4]] | /renorm | it must be null or false
BatchNormalization | {"virtual_batch_size": 8} | [[7,6,4]] | /virtual_batch_size | must be null
BatchNormalization | {"momentum": 1.5} | [[7,6,4]] | /momentum | must be from 0 to 1
BatchNormalization | {"epsilon": 0} | [[7,6,4]] | /epsilon | must be positive
LayerNormalization | {"rms_scaling": true} | [[7,6,4]] | /rms_scaling | is not supported
LayerNormalization | {"axis": [1, -3]} | [[7,6,4]] | /axis | names an axis twice
GroupNormalization | {"groups": 3} | [[7,6,4]] | /groups | 3 does not divide the 4 channels
Rescaling | {"scale": [1, 2]} | [[7,6,4]] | /scale | must be a number
Add | {} | [[6,3],[5,3]] | | shapes [6, 3], [5, 3] do not match
Add | {} | [] | | at least one input
Subtract | {} | [[7,6,4]] | | takes two inputs, not 1
Concatenate | {} | [[6,3],[5,3]] | | only along the axis of concatenation, 1
Concatenate | {"axis": 0} | [[6,3],[6,3]] | /axis | axis 0 is the batch
Dot | {"axes": [1, 2]} | [[6,3],[6,3]] | /axes | have other lengths
Dot | {"axes": [1]} | [[6,3],[6,3]] | /axes | one of each input
Embedding | {"input_dim": 9} | [[6,3]] | /output_dim | is missing
Embedding | {"input_dim": 9, "output_dim": 2, "mask_zero": true} | [[6,3]] | /mask_zero | hides steps
Masking | {} | [[6]] | | needs an input of steps
Masking | {} | [[4,6,2]] | | needs an input of steps
LSTM | {"units": 4, "time_major": true} | [[6,3]] | /time_major | is not supported
LSTM | {"units": 4, "dropout": 1} | [[6,3]] | /dropout | below 1
LSTM | {"units": 4, "recurrent_activation": "swoosh"} | [[6,3]] | /recurrent_activation | not supported
LSTM | {"units": 16384} | [[6,3]] | /recurrent_initializer | too large for Orthogonal
LSTM | {"units": 4} | [[6,3],[4]] | | or with 2 initial states of shape [4]
LSTM | {"units": 4} | [[7,6,4]] | | needs an input of steps and elements
Bidirectional | {"layer": {"class_name": "Dense", "config": {"units": 2}}} | [[6,3]] | /layer | "Dense" is not supported here
Bidirectional | {"layer": {"class_name": "GRU", "config": {"units": 0}}} | [[6,3]] | /layer/config/units | must be a whole number
Bidirectional | {"layer": 3} | [[6,3]] | /layer | must be an object, not 3
Bidirectional | {} | [[6,3]] | /layer | is missing
Bidirectional | {"merge_mode": "sum", "layer": {"class_name": "GRU", "config": {"units": 2}}, "backward_layer": {"class_name": "GRU", "config": {"units": 2}}} | [[6,3]] | /backward_layer | another go_backwards
Bidirectional | {"merge_mode": "sum", "layer": {"class_name": "GRU", "config": {"units": 2}}, "backward_layer": {"class_name": "GRU", "config": {"units": 3, "go_backwards": true}}} | [[6,3]] | /backward_layer | as many units
Bidirectional | {"merge_mode": "sum", "layer": {"class_name": "GRU", "config": {"units": 2}}, "backward_layer": {"class_name": "GRU", "config": {"units": 2, "go_backwards": true, "stateful": true}}} | [[6,3]] | /backward_layer | must be like layer
TimeDistributed | {"layer": {"class_name": "Lambda", "config": {}}} | [[6,3]] | /layer/config | it holds code
TimeDistributed | {"layer": {"class_name": "Model", "config": {}}} | [[6,3]] | /layer/config | a wrapper takes one layer
TimeDistributed | {"layer": {"class_name": "Flatten", "config": {}}} | [[6]] | | needs an input of steps
TimeDistributed | {"layer": {"class_name": "GRU", "config": {"units": 2, "return_state": true}}} | [[7,6,4]] | /layer | several outputs
TimeDistributed | {"layer": {"class_name": "GRU", "config": {"units": 2, "stateful": true}}} | [[7,6,4]] | /layer | is stateful
TimeDistributed | {"layer": {"class_name": "Masking", "config": {}}} | [[7,6,4]] | /layer | hides steps within a step
MultiHeadAttention | {"num_heads": 2, "key_dim": 4, "output_shape": [4]} | [[6,3],[6,3]] | /output_shape | must be null
MultiHeadAttention | {"num_heads": 2, "key_dim": 4, "attention_axes": [1, 2]} | [[6,3],[6,3]] | /attention_axes | axis 1
MultiHeadAttention | {"num_heads": 2, "key_dim": 4, "use_gate": true} | [[6,3],[6,3]] | /use_gate | is not supported
MultiHeadAttention | {"num_heads": 2} | [[6,3],[6,3]] | /key_dim | is missing
MultiHeadAttention | {"num_heads": 2, "key_dim": 4} | [[6,3]] | | takes query, value and, maybe, key
Lambda | {} | [[7,6,4]] | | it holds code, which is never run
ConvLSTM2D | {} | [[7,6,4]] | | layer class "ConvLSTM2D" is not supported; use TimeDistributed
TFOpLambda | {} | [[7,6,4]] | | write the operation as a layer
CuDNNGRU | {} | [[6,3]] | | export the model with LSTM or GRU
UnitNormalization | {} | [[7,6,4]] | | use BatchNormalization
Swirl9D | {} | [[7,6,4]] | | layer class "Swirl9D" is not supported
"#;

#[test]
fn each_unsupported_or_impossible_option_is_named_under_its_pointer() {
    for [class, config, inputs, place, expected] in rows(REFUSED) {
        let inputs = shapes(inputs);
        let inputs: Vec<&[usize]> = inputs.iter().map(Vec::as_slice).collect();
        let options: Value = serde_json::from_str(config).unwrap();
        let Err(found) = read_by(2, class, &options, Some(&inputs)) else {
            panic!("{class} {config} is accepted")
        };
        let first = found.iter().next().unwrap();
        assert_eq!(first.place, format!("/c{place}"), "{class} {config}: {found}");
        assert!(first.text.contains(expected), "{class} {config}: {found}");
        let unknown = read_by(2, class, &options, None);
        assert!(!matches!(unknown, Ok(Some(_))), "{class} {config}: fitted to nothing");
    }
}

#[test]
fn all_options_are_checked_while_the_input_is_unknown() {
    let config = json!({"filters": 0, "kernel_size": "x", "strides": -1, "padding": 3,
        "activation": "swoosh", "bias_regularizer": "l9", "kernel_constraint": {}, "dtype": "int8"});
    let found = read_by(2, "Conv2D", &config, None).unwrap_err();
    let places: Vec<_> =
        found.iter().map(|problem| problem.place.trim_start_matches("/c/")).collect();
    let mut expected = vec![
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "activation",
        "bias_regularizer",
        "kernel_constraint",
        "dtype",
    ];
    expected.sort_unstable();
    assert_eq!(
        {
            let mut sorted = places;
            sorted.sort_unstable();
            sorted
        },
        expected
    );
    let fine = json!({"filters": 4, "kernel_size": 3});
    assert_eq!(read_by(2, "Conv2D", &fine, None), Ok(None));
}

#[test]
fn hostile_sizes_are_refused() {
    let most = 1 << 24;
    let conv = |size: usize| json!({"filters": most, "kernel_size": size, "padding": "same"});
    let table: [(&str, Value, &[usize], &str); 11] = [
        ("Dense", json!({"units": most}), &[1 << 24], "its kernel [16777216, 16777216] has more"),
        ("Conv3D", conv(most), &[1, 1, 1, 1], "reaches over [16777216, 16777216, 16777216]"),
        ("Conv2D", conv(1), &[1 << 10, 1 << 10, 1], "its output [1024, 1024, 16777216] has more"),
        (
            "DepthwiseConv2D",
            json!({"kernel_size": 1, "depth_multiplier": most}),
            &[1, 1, 1 << 24],
            "its output [1, 1, 281474976710656] has more",
        ),
        (
            "Conv2DTranspose",
            json!({"filters": 1, "kernel_size": 1, "strides": most}),
            &[1 << 10, 1, 1],
            "reaches over [17163091969, 1]",
        ),
        (
            "MaxPooling2D",
            json!({"pool_size": most, "padding": "same"}),
            &[1, 1, 1],
            "reaches over [16777216, 16777216]",
        ),
        ("UpSampling3D", json!({"size": most}), &[2, 2, 2, 1], "has more than 2147483648 elements"),
        (
            "ZeroPadding2D",
            json!({"padding": most}),
            &[2, 2, 1],
            "has more than 2147483648 elements",
        ),
        ("RepeatVector", json!({"n": most}), &[1 << 20], "has more than 2147483648 elements"),
        ("Reshape", json!({"target_shape": vec![1; 8]}), &[1], "has more than 7 axes"),
        (
            "Embedding",
            json!({"input_dim": most, "output_dim": most}),
            &[1],
            "its embeddings [16777216, 16777216] has more",
        ),
    ];
    for (class, config, input, expected) in table {
        let found = read_by(2, class, &config, Some(&[input])).unwrap_err();
        assert!(found.to_string().contains(expected), "{class}: {found}");
    }
}

proptest::proptest! {
    /// Whatever a text says, reading neither panics nor lets anything too large through.
    #[test]
    fn no_options_panic(
        class in 0_usize..32,
        fields in proptest::collection::vec((0_usize..24, 0_usize..12), 0..6),
        sides in proptest::collection::vec(0_usize..6, 1..5),
        inputs in 1_usize..4,
    ) {
        let classes = ["Dense", "PReLU", "Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose",
            "DepthwiseConv2D", "SeparableConv1D", "MaxPooling2D", "AveragePooling3D",
            "GlobalMaxPooling2D", "ZeroPadding2D", "Cropping1D", "UpSampling2D",
            "SpatialDropout1D", "Dropout", "Softmax", "BatchNormalization", "LayerNormalization",
            "GroupNormalization", "Flatten", "Reshape", "Permute", "Embedding", "Masking",
            "Concatenate", "Add", "Dot", "LSTM", "Bidirectional", "TimeDistributed",
            "MultiHeadAttention"];
        let keys = ["units", "filters", "kernel_size", "strides", "dilation_rate", "padding",
            "output_padding", "groups", "pool_size", "size", "cropping", "data_format", "axis",
            "axes", "target_shape", "dims", "noise_shape", "shared_axes", "depth_multiplier",
            "layer", "input_dim", "output_dim", "num_heads", "key_dim"];
        let inner = json!({"class_name": "Conv1D", "config": {"filters": 2, "kernel_size": 1}});
        let values = [json!(1), json!(3), json!(1 << 24), json!(-1), json!(1e300), json!("same"),
            json!("channels_first"), json!([1, 2]), json!([1 << 24, 1 << 24, 1 << 24]),
            json!([[1, 0], [1 << 24, 2]]), json!([-1, i64::MIN]), inner];
        let mut config = json!({"units": 2, "filters": 2, "kernel_size": 2, "rate": 0.5,
            "input_dim": 3, "output_dim": 2, "num_heads": 2, "key_dim": 2, "axes": 1,
            "layer": {"class_name": "GRU", "config": {"units": 1 << 24}}});
        for (key, value) in fields {
            config[keys[key]] = values[value].clone();
        }
        let lengths = [1, 2, 3, 8, 1 << 10, 1 << 24];
        let shape: Vec<usize> = sides.into_iter().map(|side| lengths[side]).collect();
        proptest::prop_assume!(elements(&shape).is_some());
        let shapes = vec![shape.as_slice(); inputs];
        let read = read_by(2, classes[class], &config, Some(&shapes));
        if let Ok(Some(fitted)) = read {
            let weights = fitted.weights.iter().map(|weight| &weight.shape);
            for shape in fitted.outputs.iter().chain(weights) {
                proptest::prop_assert!(elements(shape).is_some() && !shape.contains(&0));
            }
        }
    }
}
