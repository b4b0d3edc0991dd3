//! Any text is read or refused, soon and within bounds; what is read can be described, and a small
//! one computes.
#![no_main]

use arrowhop_network::{Input, Network, NetworkSpec};
use arrowhop_types::ModelId;
use burn::tensor::{Device, Tensor};
use libfuzzer_sys::fuzz_target;

/// Larger networks are only described.
const COMPUTED_MAX: u64 = 1 << 16;

fuzz_target!(|text: &str| {
    let Ok(spec) = NetworkSpec::parse(text) else { return };
    let layers = spec.layers();
    assert_eq!(spec.parameters(), layers.iter().map(|layer| layer.parameters).sum::<u64>());
    let again = NetworkSpec::parse(spec.keras_json()).expect("what was read is read again");
    assert_eq!(again, spec);
    let values: u64 = layers.iter().map(|layer| layer.output.iter().product::<usize>() as u64).sum();
    let cost = spec.parameters() + values + spec.macs() + spec.input_elements() as u64;
    if cost > COMPUTED_MAX {
        return;
    }
    let device = Device::flex();
    let network = Network::initialise(&spec, 1, ModelId(1), &device);
    let inputs = spec.inputs().into_iter().map(|input| {
        Input::Values(Tensor::zeros([2, input.shape.iter().product::<usize>()], &device))
    });
    let outputs = network.predict(inputs.collect());
    for (output, spec) in outputs.iter().zip(spec.outputs()) {
        assert_eq!(output.dims(), [2, spec.elements()]);
    }
});
