//! Keras 3's `.weights.h5`, written: the layout that `h5_read` describes.

use hdf5_pure::{AttrValue, FileBuilder, FinishedGroup, GroupBuilder};

use crate::arrays::{ArraySpec, Network};
use crate::format::WriteError;
use crate::layers::{self, KerasLayer};

/// Arrays not yet written, in `get_weights()` order.
type Left<'a> = std::iter::Peekable<std::iter::Zip<std::slice::Iter<'a, ArraySpec>, Values<'a>>>;
type Values<'a> = std::slice::Iter<'a, Vec<f32>>;

/// The file's bytes.
pub(crate) fn encode(network: &Network<'_>, values: &[Vec<f32>]) -> Result<Vec<u8>, WriteError> {
    let layers = layers::read(network.keras_json)?;
    let mut left = network.arrays.iter().zip(values).peekable();
    let mut file = FileBuilder::new();
    let group = file.create_group("layers");
    file.add_group(model(group, &layers, &mut left));
    // The model's own group of arrays is empty, but Keras looks for it.
    let vars = file.create_group("vars");
    file.add_group(vars.finish());
    if let Some((array, _)) = left.next() {
        return Err(WriteError::Unplaced { array: array.name.clone() });
    }
    Ok(file.finish()?)
}

/// The layers of a model.
fn model(mut group: GroupBuilder, layers: &[KerasLayer], left: &mut Left<'_>) -> FinishedGroup {
    for layer in layers {
        let mut of_layer = group.create_group(&layer.group);
        if !layer.layers.is_empty() {
            let inner = of_layer.create_group("layers");
            of_layer.add_group(model(inner, &layer.layers, left));
        }
        let is_own = |name: &str| name.split('/').any(|part| part == layer.name);
        let mut arrays = Vec::new();
        while let Some(array) = left.next_if(|(array, _)| is_own(&array.name)) {
            arrays.push(array);
        }
        for (path, arrays) in parts(layer, &arrays) {
            add(&mut of_layer, path, arrays, &layer.name);
        }
        group.add_group(of_layer.finish());
    }
    group.finish()
}

/// An array and its numbers.
type Array<'a> = (&'a ArraySpec, &'a Vec<f32>);

/// A layer's arrays by what it is made of: the path below its group.
fn parts<'p, 'a>(
    layer: &KerasLayer,
    arrays: &'p [Array<'a>],
) -> Vec<(&'static [&'static str], &'p [Array<'a>])> {
    match layer.class.as_str() {
        "LSTM" | "GRU" | "SimpleRNN" => vec![(&["cell"], arrays)],
        "TimeDistributed" => vec![(&["layer"], arrays)],
        "Bidirectional" => {
            let (forward, backward) = arrays.split_at(arrays.len() / 2);
            vec![(&["forward_layer", "cell"], forward), (&["backward_layer", "cell"], backward)]
        }
        "MultiHeadAttention" => {
            let projections: [&'static [&'static str]; 4] =
                [&["query_dense"], &["key_dense"], &["value_dense"], &["output_dense"]];
            let each = if layer.uses_bias { 2 } else { 1 };
            projections.into_iter().zip(arrays.chunks(each)).collect()
        }
        _ => vec![(&[], arrays)],
    }
}

/// Adds arrays as `0`, `1` and so on to the group `vars` at the end of a path.
fn add(group: &mut GroupBuilder, path: &[&str], arrays: &[Array<'_>], name: &str) {
    if let Some((first, rest)) = path.split_first() {
        let mut part = group.create_group(first);
        add(&mut part, rest, arrays, name);
        group.add_group(part.finish());
        return;
    }
    let mut vars = group.create_group("vars");
    vars.set_attr("name", AttrValue::VarLenString(name.to_owned()));
    for (i, (array, values)) in arrays.iter().enumerate() {
        let shape: Vec<u64> = array.shape.iter().map(|&extent| extent as u64).collect();
        vars.create_dataset(&i.to_string()).with_f32_data(values).with_shape(&shape);
    }
    group.add_group(vars.finish());
}
