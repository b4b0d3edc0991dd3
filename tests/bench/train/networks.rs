//! The networks that are compared, as Keras JSON, and rows for them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arrowhop_network::NetworkSpec;
use arrowhop_train::{Device, InputChunks, Resident, Rows, TargetChunks, Task};
use arrowhop_types::optimizer::{Method, Semantics, Sgd};
use arrowhop_types::{
    ClassList, Dtype, Encoding, InputSpec, Loss, ModelConfig, ModelId, Optimizer, Precision,
    Target, TargetColumn,
};
use serde_json::{Value, json};

use crate::{Steps, first_state, visit};

/// Places of ones in a row of hashed features.
const PLACES: usize = 39;
const WIDTH: u32 = 7306;

/// A network with rows.
pub(crate) struct Workload {
    task: Task,
    state: Vec<u8>,
    bytes: Vec<u8>,
    places: Vec<i32>,
    classes: Vec<i32>,
}

impl Workload {
    /// A network by name, with a batch or two of rows.
    pub(crate) fn named(name: &str, batch: u32, precision: Precision) -> anyhow::Result<Self> {
        let images = vec![32, 32, 3];
        let (keras_json, shape, classes) = match name {
            "mlp" => (sequential(vec![784], dense_layers(&[1000, 500, 10])), vec![784], 10),
            "m1" => (example("cifar10_m1")?, images, 10),
            "m2" => (example("cifar10_m2")?, images, 10),
            "resnet18" => (resnet18(), images, 10),
            "resnet50" => (resnet50(), vec![112, 112, 3], 1000),
            "w6" => {
                let layers = dense_layers(&[1000, 500, 2]);
                (sequential(vec![WIDTH as usize], layers), vec![PLACES], 2)
            }
            _ => bail!("{name} is no network; there are mlp, m1, m2, resnet18, resnet50, w6"),
        };
        let mut input = InputSpec::numbers(shape, Dtype::U8, 255.0);
        if name == "w6" {
            input.dtype = Dtype::I32;
            input.encoding = Encoding::OneHot { width: WIDTH };
        }
        let sgd = Sgd { momentum: 0.9, nesterov: false };
        let optimizer = Optimizer::new(Method::Sgd(sgd), Semantics::Current).at_rate(0.001);
        let config = ModelConfig::new(name, optimizer, Loss::CATEGORICAL_CROSSENTROPY, batch);
        let config = ModelConfig { precision, ..config };
        let target =
            Target::Classes(ClassList::named((0..classes).map(|class: i32| class.to_string())));
        let target = TargetColumn::only(target);
        let network = NetworkSpec::parse(&keras_json)?;
        let task = Task::new(network, config, &[input], &[target], 1, ModelId(1), false)?;
        let state = first_state(&task)?;
        let (bytes, places, classes_of) = (Vec::new(), Vec::new(), (0..classes).collect());
        let mut workload = Self { task, state, bytes, places, classes: classes_of };
        workload.resize(2 * batch);
        Ok(workload)
    }

    /// Takes as many rows as a visit of about this length trains on, whole batches.
    pub(crate) fn fit(&mut self, length: Duration, device: &Device) -> anyhow::Result<()> {
        let batch = self.task.config().batch_rows;
        let steps = self.visit(device, None)?;
        let took = (steps.ended - steps.begun).as_secs_f64() * 2.0;
        let share = length.as_secs_f64() / took;
        #[expect(clippy::cast_possible_truncation, reason = "rows are few")]
        #[expect(clippy::cast_sign_loss, reason = "times are positive")]
        let batches = (2.0 * share) as u32;
        self.resize(batch * batches.clamp(2, 4000));
        Ok(())
    }

    /// The rows in a GPU's memory.
    pub(crate) fn resident(&self, device: &Device) -> anyhow::Result<Option<Arc<Resident>>> {
        if device.is_cpu() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Resident::load(self.view()?.inputs(), device))))
    }

    /// A visit.
    pub(crate) fn visit(
        &self,
        device: &Device,
        resident: Option<Arc<Resident>>,
    ) -> anyhow::Result<Steps> {
        visit(&self.task, &self.state, &self.view()?.on(device, resident))
    }

    fn view(&self) -> anyhow::Result<Rows<'_>> {
        let input = &self.task.inputs()[0];
        let x = match input.dtype {
            Dtype::I32 => InputChunks::I32(vec![&self.places]),
            _ => InputChunks::U8(vec![&self.bytes]),
        };
        let y = TargetChunks::Classes(vec![&self.classes]);
        Ok(Rows::new(&self.task, vec![x], vec![y])?)
    }

    fn resize(&mut self, rows: u32) {
        let input = &self.task.inputs()[0];
        let elements = rows as usize * input.elements();
        let places = (0..WIDTH.cast_signed()).cycle().step_by(191);
        match input.dtype {
            Dtype::I32 => self.places = places.take(elements).collect(),
            _ => self.bytes = (0_u8..=250).cycle().take(elements).collect(),
        }
        let classes = i32::try_from(self.task.targets()[0].target.width()).unwrap_or(1);
        self.classes = (0..classes).cycle().take(rows as usize).collect();
    }
}

fn example(name: &str) -> anyhow::Result<String> {
    let file = arrowhop_tests::workspace().join(format!("examples/networks/{name}.json"));
    std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
}

fn sequential(shape: Vec<usize>, mut layers: Vec<Value>) -> String {
    let mut all = vec![Value::Null];
    all.extend(shape.into_iter().map(Value::from));
    layers[0]["config"]["batch_input_shape"] = Value::Array(all);
    json!({"class_name": "Sequential", "config": {"layers": layers}}).to_string()
}

fn dense_layers(units: &[u32]) -> Vec<Value> {
    let last = units.len() - 1;
    let layer = |(i, units): (usize, &u32)| {
        let activation = if i == last { "softmax" } else { "relu" };
        json!({"class_name": "Dense", "config": {"name": format!("dense_{i}"), "units": units,
            "activation": activation}})
    };
    units.iter().enumerate().map(layer).collect()
}

/// K. He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, table 1, for images of
/// 32×32: a first convolution of 3×3 without a stride, and no pool.
fn resnet18() -> String {
    let mut layers = Layers::default();
    layers.add("InputLayer", "x", json!({"batch_input_shape": [null, 32, 32, 3]}), &[]);
    let mut last = layers.normalised("stem", 64, 3, 1, "x");
    last = layers.add("Activation", "stem_relu", json!({"activation": "relu"}), &[&last]);
    let mut inputs = 64;
    for (stage, (outputs, stride)) in
        [(64, 1), (128, 2), (256, 2), (512, 2)].into_iter().enumerate()
    {
        for block in 0..2 {
            let name = format!("s{stage}b{block}");
            let stride = if block == 0 { stride } else { 1 };
            let first = layers.normalised(&format!("{name}_1"), outputs, 3, stride, &last);
            let relu = json!({"activation": "relu"});
            let first = layers.add("Activation", &format!("{name}_r"), relu.clone(), &[&first]);
            let second = layers.normalised(&format!("{name}_2"), outputs, 3, 1, &first);
            let shortcut = if stride == 1 && inputs == outputs {
                last
            } else {
                layers.normalised(&format!("{name}_s"), outputs, 1, stride, &last)
            };
            let sum = layers.add("Add", &format!("{name}_a"), json!({}), &[&second, &shortcut]);
            last = layers.add("Activation", &name, relu, &[&sum]);
            inputs = outputs;
        }
    }
    let mean = layers.add("GlobalAveragePooling2D", "mean", json!({}), &[&last]);
    let softmax = json!({"units": 10, "activation": "softmax"});
    layers.add("Dense", "out", softmax, &[&mean]);
    json!({"class_name": "Functional", "config": {"name": "resnet18", "layers": layers.layers,
        "input_layers": [["x", 0, 0]], "output_layers": [["out", 0, 0]]}})
    .to_string()
}

/// The same, table 1, for images of 112×112.
fn resnet50() -> String {
    let mut layers = Layers::default();
    layers.add("InputLayer", "x", json!({"batch_input_shape": [null, 112, 112, 3]}), &[]);
    let relu = || json!({"activation": "relu"});
    let stem = layers.normalised("stem", 64, 7, 2, "x");
    let stem = layers.add("Activation", "stem_relu", relu(), &[&stem]);
    let pool = json!({"pool_size": 3, "strides": 2, "padding": "same"});
    let mut last = layers.add("MaxPooling2D", "pool", pool, &[&stem]);
    for (stage, (width, blocks, stride)) in
        [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)].into_iter().enumerate()
    {
        for block in 0..blocks {
            let name = format!("s{stage}b{block}");
            let stride = if block == 0 { stride } else { 1 };
            let mut inner = last.clone();
            for (part, (size, stride)) in [(1, 1), (3, stride)].into_iter().enumerate() {
                inner = layers.normalised(&format!("{name}_{part}"), width, size, stride, &inner);
                inner = layers.add("Activation", &format!("{name}_r{part}"), relu(), &[&inner]);
            }
            inner = layers.normalised(&format!("{name}_2"), 4 * width, 1, 1, &inner);
            let shortcut = if block == 0 {
                layers.normalised(&format!("{name}_s"), 4 * width, 1, stride, &last)
            } else {
                last
            };
            let sum = layers.add("Add", &format!("{name}_a"), json!({}), &[&inner, &shortcut]);
            last = layers.add("Activation", &name, relu(), &[&sum]);
        }
    }
    let mean = layers.add("GlobalAveragePooling2D", "mean", json!({}), &[&last]);
    layers.add("Dense", "out", json!({"units": 1000, "activation": "softmax"}), &[&mean]);
    json!({"class_name": "Functional", "config": {"name": "resnet50", "layers": layers.layers,
        "input_layers": [["x", 0, 0]], "output_layers": [["out", 0, 0]]}})
    .to_string()
}

#[derive(Default)]
struct Layers {
    layers: Vec<Value>,
}

impl Layers {
    /// Adds a layer; gives its name.
    fn add(&mut self, class: &str, name: &str, mut config: Value, from: &[&str]) -> String {
        let calls: Vec<_> = from.iter().map(|from| json!([from, 0, 0, {}])).collect();
        config["name"] = json!(name);
        let nodes = if calls.is_empty() { json!([]) } else { json!([calls]) };
        self.layers.push(json!({"class_name": class, "name": name, "config": config,
            "inbound_nodes": nodes}));
        name.to_owned()
    }

    fn normalised(
        &mut self,
        name: &str,
        filters: u32,
        size: u32,
        stride: u32,
        from: &str,
    ) -> String {
        let config = json!({"filters": filters, "kernel_size": size, "strides": stride,
            "padding": "same", "use_bias": false});
        let convolution = self.add("Conv2D", name, config, &[from]);
        self.add("BatchNormalization", &format!("{name}_n"), json!({}), &[&convolution])
    }
}
