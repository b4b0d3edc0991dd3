//! Steps and rates computed by Keras 3 itself: `oracle.json`, written by
//! `tests/python/keras_optimizers.py`.

use arrowhop_types::Optimizer;
use arrowhop_types::optimizer::{ParameterValue, Semantics};
use burn::tensor::{Tensor, TensorData};
use serde_json::Value;

use super::{Array, DeviceArray, Slot, Update, needs_norm, norm, rate, scalars, slots, square_sum};

const ORACLE: &str = include_str!("oracle.json");

fn oracle() -> Value {
    serde_json::from_str(ORACLE).unwrap()
}

fn floats(list: &Value) -> Vec<f32> {
    let single = |value: &Value| value.to_string().parse().unwrap();
    list.as_array().unwrap().iter().map(single).collect()
}

fn arrays(list: &Value) -> Vec<Vec<f32>> {
    list.as_array().unwrap().iter().map(floats).collect()
}

/// The optimizer with these parameters, each name after this prefix.
fn with(optimizer: &Optimizer, prefix: &str, parameters: &Value) -> Optimizer {
    let values = parameters.as_object().unwrap().iter().map(|(name, value)| {
        let value = match value {
            Value::Bool(flag) => ParameterValue::Flag(*flag),
            Value::Array(list) => {
                ParameterValue::Numbers(list.iter().map(|item| item.as_f64().unwrap()).collect())
            }
            number => ParameterValue::Number(number.as_f64().unwrap()),
        };
        (format!("{prefix}{name}"), value)
    });
    let values: Vec<_> = values.collect();
    let values: Vec<_> =
        values.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    optimizer.with(&values).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Within so much of the largest number expected.
fn assert_near(what: &str, found: &[Vec<f32>], expected: &Value, tolerance: f32) {
    let expected = arrays(expected);
    let largest = expected.iter().flatten().fold(0_f32, |largest, value| largest.max(value.abs()));
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let is_near = (found - expected).abs() <= tolerance * largest;
            assert!(is_near, "{what}, array {i}: {found}, not {expected}");
        }
    }
}

/// A few weight arrays and what an optimizer keeps for them.
struct Model {
    optimizer: Optimizer,
    shapes: Vec<Vec<usize>>,
    weights: Vec<Vec<f32>>,
    slots: Vec<Vec<Vec<f32>>>,
    scalars: Vec<f32>,
}

impl Model {
    fn new(optimizer: Optimizer, oracle: &Value) -> Self {
        let shapes: Vec<Vec<usize>> = serde_json::from_value(oracle["shapes"].clone()).unwrap();
        let fresh = |slot: &Slot| vec![slot.initial; slot.elements()];
        let slots = shapes.iter().map(|shape| slots(&optimizer, shape).iter().map(fresh).collect());
        Self {
            slots: slots.collect(),
            scalars: scalars(&optimizer).iter().map(|(_, value)| *value).collect(),
            weights: arrays(&oracle["initial"]),
            optimizer,
            shapes,
        }
    }

    /// As [`Self::step`], by tensors.
    fn step_on_device(&mut self, step: u64, gradients: &[Vec<f32>]) {
        let tensor = |values: &Vec<f32>| {
            let data = TensorData::new(values.clone(), [values.len()]);
            Tensor::<1>::from_data(data, &burn::tensor::Device::flex())
        };
        let values = |tensor: Tensor<1>| tensor.into_data().try_into_vec::<f32>().unwrap();
        let gradients: Vec<_> = gradients.iter().map(tensor).collect();
        let norm = needs_norm(&self.optimizer).then(|| norm(gradients.iter())).flatten();
        let update = Update::new(&self.optimizer, step, &mut self.scalars, None);
        for (i, gradient) in gradients.into_iter().enumerate() {
            let shape = &self.shapes[i];
            let mut weights = tensor(&self.weights[i]);
            let mut slots: Vec<_> = self.slots[i].iter().map(tensor).collect();
            let (of_weights, of_slots) = (&mut weights, &mut slots);
            let array = DeviceArray { shape, weights: of_weights, gradient, slots: of_slots };
            update.apply_on_device(array, norm.as_ref());
            self.weights[i] = values(weights);
            self.slots[i] = slots.into_iter().map(values).collect();
        }
    }

    fn step(&mut self, step: u64, gradients: &[Vec<f32>]) {
        let all: f64 = gradients.iter().map(|gradient| square_sum(gradient)).sum();
        let norm = needs_norm(&self.optimizer).then_some(all.sqrt());
        let update = Update::new(&self.optimizer, step, &mut self.scalars, norm);
        for (i, gradient) in gradients.iter().enumerate() {
            let (shape, weights) = (&self.shapes[i], &mut self.weights[i]);
            update.apply(Array { shape, weights, gradient, slots: &mut self.slots[i] });
        }
    }
}

#[test]
fn every_optimizer_steps_as_keras_3_does() {
    let oracle = oracle();
    let mut names = Vec::new();
    for run in oracle["runs"].as_array().unwrap() {
        let name = run["name"].as_str().unwrap();
        let plain = Optimizer::named(name, Semantics::Current).unwrap();
        let optimizer = with(&plain, "", &run["parameters"]);
        let what = optimizer.to_string();
        let mut model = Model::new(optimizer.clone(), &oracle);
        let mut on_device = Model::new(optimizer, &oracle);
        for (step, gradients) in (1..).zip(oracle["gradients"].as_array().unwrap()) {
            model.step(step, &arrays(gradients));
            on_device.step_on_device(step, &arrays(gradients));
            if step == 1 {
                assert_near(&format!("{what}: first"), &model.weights, &run["first"], 1e-6);
            }
        }
        assert_near(&format!("{what}: last"), &model.weights, &run["last"], 1e-6);
        assert_near(&format!("{what} by tensors: last"), &on_device.weights, &run["last"], 2e-6);
        if !run["averages"].is_null() {
            let averages: Vec<_> =
                model.slots.iter().map(|slots| slots.last().unwrap().clone()).collect();
            assert_near(&format!("{what}: averages"), &averages, &run["averages"], 1e-6);
        }
        names.push(name.to_owned());
    }
    for method in arrowhop_types::optimizer::Method::all(Semantics::Current) {
        assert!(names.iter().any(|name| name == method.name()), "{} is not there", method.name());
    }
}

#[test]
fn every_schedule_falls_as_keras_3_s_does() {
    let sgd = Optimizer::named("sgd", Semantics::Current).unwrap();
    for record in oracle()["schedules"].as_array().unwrap() {
        let scheduled = sgd.clone().scheduled(record["schedule"].as_str().unwrap()).unwrap();
        let optimizer = with(&scheduled, "learning_rate.", &record["parameters"]);
        for (steps_done, expected) in (0..).zip(record["rates"].as_array().unwrap()) {
            let (found, expected) =
                (rate::rate(&optimizer.learning_rate, steps_done), expected.as_f64().unwrap());
            let is_near = (found - expected).abs() <= 1e-6 * 0.1;
            assert!(is_near, "{optimizer} after {steps_done}: {found}, not {expected}");
        }
    }
}
