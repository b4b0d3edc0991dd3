//! `arrowhop network show`: layers, weights, shapes and costs.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use arrowhop_network::NetworkSpec;
use serde_json::{Value, json};

use crate::cli::Output;
use crate::exit::Exit;
use crate::report::{print, table};

pub(super) fn show(architecture: &Path, output: Output) -> anyhow::Result<Exit> {
    let text = std::fs::read_to_string(architecture)
        .with_context(|| format!("read {}", architecture.display()))?;
    let spec = NetworkSpec::parse(&text).with_context(|| architecture.display().to_string())?;
    let text = match output {
        Output::Json => format!("{:#}\n", as_json(&spec)),
        Output::Csv => as_csv(&spec),
        Output::Table => as_text(&spec),
    };
    print(&text)?;
    Ok(Exit::Done)
}

fn as_json(spec: &NetworkSpec) -> Value {
    let inputs = spec.inputs().into_iter();
    let inputs = inputs.map(|input| json!({"name": input.name, "shape": input.shape}));
    let outputs = spec.outputs().into_iter();
    let outputs = outputs.map(|output| json!({"name": output.name, "shape": output.shape}));
    let layers = spec.layers().into_iter().map(|layer| {
        json!({
            "name": layer.name,
            "class": layer.class,
            "output_shape": layer.output,
            "calls": layer.calls,
            "parameters": layer.parameters,
            "trainable_parameters": layer.trainable_parameters,
            "macs": layer.macs,
        })
    });
    let weights = spec.weights().into_iter().map(
        |weight| json!({"name": weight.name, "shape": weight.shape, "trainable": weight.trainable}),
    );
    json!({
        "schema_version": 1,
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
        "parameters": spec.parameters(),
        "trainable_parameters": spec.trainable_parameters(),
        "macs": spec.macs(),
        "layers": layers.collect::<Vec<_>>(),
        "weights": weights.collect::<Vec<_>>(),
    })
}

fn as_csv(spec: &NetworkSpec) -> String {
    let mut text =
        "layer,class,output_shape,calls,parameters,trainable_parameters,macs\n".to_owned();
    for layer in spec.layers() {
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{}",
            layer.name,
            layer.class,
            by(&layer.output, "x"),
            layer.calls,
            layer.parameters,
            layer.trainable_parameters,
            layer.macs
        );
    }
    text
}

fn as_text(spec: &NetworkSpec) -> String {
    let header = ["Layer", "Class", "Output", "Parameters", "Trainable", "MACs"];
    let mut rows = table(header, &[3, 4, 5]);
    for layer in spec.layers() {
        let calls = if layer.calls > 1 { format!(" (x{})", layer.calls) } else { String::new() };
        rows.add_row([
            layer.name,
            format!("{}{calls}", layer.class),
            by(&layer.output, " x "),
            layer.parameters.to_string(),
            layer.trainable_parameters.to_string(),
            layer.macs.to_string(),
        ]);
    }
    let mut text = String::new();
    for input in spec.inputs() {
        let _ = writeln!(text, "input {}: {}", input.name, by(&input.shape, " x "));
    }
    let _ = writeln!(text, "\n{rows}\n");
    for output in spec.outputs() {
        let _ = writeln!(text, "output {}: {}", output.name, by(&output.shape, " x "));
    }
    let (all, trainable) = (spec.parameters(), spec.trainable_parameters());
    let _ = writeln!(
        text,
        "{all} parameters, {trainable} of them trainable; {} multiply-accumulates forward per \
         example",
        spec.macs()
    );
    text
}

/// Sizes with a sign between them.
fn by(shape: &[usize], sign: &str) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(sign)
}
