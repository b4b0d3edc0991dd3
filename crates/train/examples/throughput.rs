//! Training throughput of one model on one thread: samples per second, and CPU seconds per 1,000
//! samples. Run it with `cargo run --release -p arrowhop-train --example throughput -- [network [batch]]`.
#![expect(clippy::print_stdout, reason = "an example prints its figures")]

use std::ops::ControlFlow;

use arrowhop_network::NetworkSpec;
use arrowhop_train::{
    Footprint, InputChunks, Rows, TargetChunks, Task, Visit, initial_state, train_visit,
};
use arrowhop_types::optimizer::{Method, Semantics, Sgd};
use arrowhop_types::{
    ClassList, Dtype, InputSpec, Loss, ModelConfig, ModelId, Optimizer, Problems, Score, ShardId,
    Target, TargetColumn,
};
use serde_json::{Value, json};

const CLASSES: usize = 10;

/// A network, its input's shape, and rows enough for a second or so.
struct Workload {
    name: &'static str,
    layers: Value,
    input: Vec<usize>,
    rows: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let only = std::env::args().nth(1);
    let batch = std::env::args().nth(2).map(|batch| batch.parse()).transpose()?;
    println!("network  batch  samples/s  CPU s/1000  state s  predicted MB");
    for workload in [mlp(), m1()] {
        if only.as_deref().is_some_and(|only| only != workload.name) {
            continue;
        }
        for batch_rows in batch.map_or(vec![32, 128], |batch| vec![batch]) {
            measure(&workload, batch_rows)?;
        }
    }
    Ok(())
}

/// Two visits; the second one is measured.
fn measure(workload: &Workload, batch_rows: u32) -> Result<(), Box<dyn std::error::Error>> {
    let task = task(workload, batch_rows)?;
    let pixels = workload.input.iter().product::<usize>() * workload.rows;
    let inputs: Vec<u8> = (0_u8..=250).cycle().take(pixels).collect();
    let classes: Vec<i32> = (0..10).cycle().take(workload.rows).collect();
    let x = vec![InputChunks::U8(vec![&inputs])];
    let rows = Rows::new(&task, x, vec![TargetChunks::Classes(vec![&classes])])?;
    let mut keep_on = |_: u64, _: &Score| ControlFlow::Continue(());
    let mut state = initial_state(&task)?;
    for epoch in 0..2 {
        let visit = Visit { epoch, shard: ShardId(0) };
        let trained = train_visit(&task, &state, visit, &rows, &mut keep_on)?;
        state = trained.state;
        if epoch == 1 {
            let samples = f64::from(u32::try_from(workload.rows)?);
            println!(
                "{:<8} {batch_rows:>5} {:>10.0} {:>11.3} {:>8.3} {:>13}",
                workload.name,
                samples / trained.timing.train.as_secs_f64(),
                trained.timing.cpu.as_secs_f64() * 1000.0 / samples,
                trained.timing.state.as_secs_f64(),
                Footprint::of(&task).bytes() >> 20,
            );
        }
    }
    Ok(())
}

fn task(workload: &Workload, batch_rows: u32) -> Result<Task, Problems> {
    let mut layers = workload.layers.clone();
    let mut shape = vec![Value::Null];
    shape.extend(workload.input.iter().map(|&size| json!(size)));
    layers[0]["config"]["batch_input_shape"] = Value::Array(shape);
    for (i, layer) in layers.as_array_mut().into_iter().flatten().enumerate() {
        layer["config"]["name"] = json!(format!("layer_{i}"));
    }
    let keras_json = json!({"class_name": "Sequential", "config": {"layers": layers}});
    let sgd = Sgd { momentum: 0.9, nesterov: false };
    let optimizer = Optimizer::new(Method::Sgd(sgd), Semantics::Current).at_rate(0.001);
    let loss = Loss::CATEGORICAL_CROSSENTROPY;
    let config = ModelConfig::new(workload.name, optimizer, loss, batch_rows);
    let input = InputSpec::numbers(workload.input.clone(), Dtype::U8, 255.0);
    let target = Target::Classes(ClassList::named((0..CLASSES).map(|class| class.to_string())));
    let target = TargetColumn::only(target);
    let network = NetworkSpec::parse(&keras_json.to_string())?;
    Task::new(network, config, &[input], &[target], 1, ModelId(1), false)
}

fn mlp() -> Workload {
    let layers = json!([dense(1000, "relu"), dense(500, "relu"), dense(CLASSES, "softmax")]);
    Workload { name: "MLP", layers, input: vec![784], rows: 8_192 }
}

/// The first CIFAR-10 network of MADlib's model selection notebook.
fn m1() -> Workload {
    let layers = json!([
        convolution(32, "same"),
        convolution(32, "valid"),
        pool(),
        dropout(0.25),
        convolution(64, "same"),
        convolution(64, "valid"),
        pool(),
        dropout(0.25),
        {"class_name": "Flatten", "config": {}},
        dense(512, "relu"),
        dropout(0.5),
        dense(CLASSES, "softmax"),
    ]);
    Workload { name: "M1", layers, input: vec![32, 32, 3], rows: 512 }
}

fn dense(units: usize, activation: &str) -> Value {
    json!({"class_name": "Dense", "config": {"units": units, "activation": activation}})
}

fn convolution(filters: usize, padding: &str) -> Value {
    json!({"class_name": "Conv2D", "config": {"filters": filters, "kernel_size": 3,
        "padding": padding, "activation": "relu"}})
}

fn pool() -> Value {
    json!({"class_name": "MaxPooling2D", "config": {"pool_size": 2}})
}

fn dropout(rate: f64) -> Value {
    json!({"class_name": "Dropout", "config": {"rate": rate}})
}
