//! Losses and metrics of whole batches.

use std::slice::from_ref;

use arrowhop_types::{ClassList, OutputConfig};

use super::*;

fn shape(name: &str, shape: &[usize], gives_logits: bool) -> OutputShape {
    OutputShape { name: name.to_owned(), shape: shape.to_vec(), gives_logits }
}

fn classes(count: usize) -> Target {
    Target::Classes(ClassList::named((0..count).map(|class| format!("class {class}"))))
}

fn held_to(loss: &str, metrics: &[&str]) -> OutputConfig {
    let metrics = metrics.iter().map(|metric| metric.parse().unwrap()).collect();
    OutputConfig { metrics, ..OutputConfig::new(loss.parse().unwrap()) }
}

fn config(outputs: Vec<OutputConfig>) -> ModelConfig {
    let optimizer = crate::testing::adam(0.1);
    let loss = Loss::MeanSquaredError;
    ModelConfig { outputs, ..ModelConfig::new("test", optimizer, loss, 1) }
}

fn checked(
    config: &ModelConfig,
    shapes: &[OutputShape],
    targets: &[&Target],
) -> Result<Objective, Problems> {
    let mut problems = Problems::new();
    let objective = Objective::new(config, shapes, targets, &mut problems);
    problems.or(objective)
}

fn one(loss: &str, metrics: &[&str], of: &OutputShape, target: &Target) -> Objective {
    checked(&config(vec![held_to(loss, metrics)]), from_ref(of), &[target]).unwrap()
}

/// Central differences of the mean loss by every output.
fn assert_gradients_are_slopes(objective: &Objective, outputs: &[Vec<f32>], targets: &[Targets]) {
    let views = |outputs: &[Vec<f32>]| -> Score {
        let views: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
        objective.score_and_gradients(&views, targets).0
    };
    let all: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
    let (_, gradients) = objective.score_and_gradients(&all, targets);
    for (output, gradient) in gradients.iter().enumerate() {
        assert_eq!(gradient.len(), outputs[output].len());
        for (i, slope) in gradient.iter().enumerate() {
            let loss_at = |offset: f32| {
                let mut moved = outputs.to_vec();
                moved[output][i] += offset;
                views(&moved).loss().unwrap()
            };
            let expected = (loss_at(1.0 / 1024.0) - loss_at(-1.0 / 1024.0)) * 512.0;
            let found = f64::from(*slope);
            let near = 2e-4 * expected.abs().max(1.0);
            assert!((found - expected).abs() < near, "{output}, {i}: {found}, not {expected}");
        }
    }
}

#[test]
fn gradients_pass_through_a_softmax_and_any_rank() {
    let logits: Vec<f32> = vec![0.5, 0.25, 0.8, 0.75, 0.125, 0.5, 0.3, 0.9, 0.2, 0.4, 0.7, 0.6];
    let values: Vec<f32> = vec![0.1, 0.2, 0.7, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.25, 0.5, 0.25];
    for name in Loss::names().filter(|name| !name.starts_with("sparse")) {
        for gives_logits in [true, false] {
            let rank_2 = shape("a", &[2, 3], gives_logits);
            let objective = one(name, &[], &rank_2, &Target::Values(6));
            let targets = [Targets::Values(values.clone())];
            assert_gradients_are_slopes(&objective, from_ref(&logits), &targets);
        }
    }
    for name in ["categorical_crossentropy", "sparse_categorical_crossentropy", "mse", "bce"] {
        for gives_logits in [true, false] {
            let objective = one(name, &[], &shape("a", &[3], gives_logits), &classes(3));
            let targets = [Targets::Classes(vec![2, 0, 1, 1])];
            assert_gradients_are_slopes(&objective, from_ref(&logits), &targets);
        }
    }
}

/// A class of three, weighted, and two numbers that count half.
fn two_outputs() -> Objective {
    let shapes = [shape("kind", &[3], true), shape("size", &[2], false)];
    let mut size = held_to("mean_absolute_error", &["rmse"]);
    size.loss_weight = 0.5;
    let config = config(vec![held_to("categorical_crossentropy", &["accuracy"]), size]);
    checked(&config, &shapes, &[&classes(3), &Target::Values(2)]).unwrap()
}

#[test]
fn several_outputs_add_up_by_their_weights_and_are_measured_by_name() {
    let objective = two_outputs();
    let (kinds, sizes) = (vec![0.0; 6], vec![1.0, 2.0, 3.0, 5.0]);
    let targets = [Targets::Classes(vec![0, 1]), Targets::Values(vec![1.0, 1.0, 1.0, 1.0])];
    let score = objective.score(&[&kinds, &sizes], &targets);
    let measures = score.measures();
    let named: Vec<_> = measures.named().collect();
    let names: Vec<_> = named.iter().map(|(name, _)| *name).collect();
    let expected = [
        "loss",
        "kind_categorical_crossentropy",
        "kind_accuracy",
        "size_mean_absolute_error",
        "size_root_mean_squared_error",
    ];
    assert_eq!(names, expected);
    let values = [3_f64.ln() + 0.5 * 1.75, 3_f64.ln(), 0.5, 1.75, 21_f64.sqrt() / 2.0];
    for ((name, found), expected) in named.iter().zip(values) {
        assert!((found - expected).abs() < 1e-12, "{name}: {found}, not {expected}");
    }
    assert_gradients_are_slopes(&objective, &[kinds, sizes], &targets);
}

#[test]
fn class_weights_count_in_training_alone_and_the_mean_is_over_all_rows() {
    let target = classes(3);
    let weighted = ModelConfig {
        class_weights: vec![0.5, 1.0, 4.0],
        ..config(vec![held_to("categorical_crossentropy", &["accuracy"])])
    };
    let objective = checked(&weighted, &[shape("a", &[3], true)], &[&target]).unwrap();
    let (outputs, targets) = (vec![0.0_f32; 6], [Targets::Classes(vec![0, 2])]);
    let (score, gradients) = objective.score_and_gradients(&[&outputs], &targets);
    assert!((score.loss().unwrap() - 2.25 * 3_f64.ln()).abs() < 1e-12);
    assert_eq!(score.accuracy(), Some(0.5));
    let third = 1.0_f32 / 3.0;
    let expected = [-0.5 * third, 0.25 * third, 0.25 * third, 2.0 * third, 2.0 * third];
    for (found, expected) in gradients[0].iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{gradients:?}");
    }
    let evaluated = objective.score(&[&outputs], &targets);
    assert!((evaluated.loss().unwrap() - 3_f64.ln()).abs() < 1e-12);
    assert_gradients_are_slopes(&objective, &[outputs], &targets);
}

#[test]
fn a_softmax_is_fused_and_probabilities_are_rescaled() {
    let loss = |gives_logits, outputs: [f32; 2]| {
        let of = shape("a", &[2], gives_logits);
        let objective = one("categorical_crossentropy", &[], &of, &classes(2));
        objective.score(&[&outputs], &[Targets::Classes(vec![0])]).loss_sum
    };
    assert!((loss(false, [1.0, 3.0]) - 4_f64.ln()).abs() < 1e-9);
    assert!((loss(false, [0.0, 1.0]) - 16.1181).abs() < 1e-4);
    assert_eq!(loss(true, [-1000.0, 1000.0]), 2000.0);
}

#[test]
fn ties_go_to_the_first_class_and_one_output_is_cut_at_one_half() {
    let three = one("mse", &["accuracy"], &shape("a", &[3], false), &classes(3));
    let right = |class| {
        let targets = [Targets::Classes(vec![class])];
        three.score(&[&[0.5, 0.7, 0.7]], &targets).accuracy()
    };
    assert_eq!((right(1), right(2)), (Some(1.0), Some(0.0)));
    let one_output = one("mse", &["accuracy"], &shape("a", &[1], false), &classes(2));
    let targets = [Targets::Classes(vec![0, 1, 0])];
    let score = one_output.score(&[&[0.5, 0.6, 0.6]], &targets);
    assert_eq!((score.rows, score.metrics[0].sums.as_slice()), (3, &[2.0, 3.0][..]));
}

#[test]
fn sums_over_parts_are_those_over_all_rows() {
    let metrics = [
        "accuracy",
        "top_2_accuracy",
        "precision",
        "recall",
        "true_positives",
        "true_negatives",
        "false_positives",
        "false_negatives",
        "auc",
        "auc(curve=PR)",
        "f1_score",
        "r2_score",
        "f1_score(average=micro)",
        "rmse",
        "mae",
        "cosine_similarity",
        "categorical_crossentropy",
    ];
    let objective = one("categorical_crossentropy", &metrics, &shape("a", &[3], true), &classes(3));
    let outputs: Vec<f32> = (0_u8..60).map(|i| f32::from(i.wrapping_mul(97)) / 64.0).collect();
    let labels: Vec<usize> = (0..20).map(|row| row * row % 3).collect();
    let part = |rows: std::ops::Range<usize>| {
        let targets = [Targets::Classes(labels[rows.clone()].to_vec())];
        objective.score(&[&outputs[3 * rows.start..3 * rows.end]], &targets)
    };
    let whole = part(0..20).measures();
    let mut sum = part(0..7);
    sum.add(&part(7..8));
    sum.add(&part(8..20));
    assert_eq!(sum.measures().metrics.len(), metrics.len());
    for ((name, found), (_, expected)) in sum.measures().named().zip(whole.named()) {
        assert!((found - expected).abs() < 1e-12, "{name}: {found}, not {expected}");
        assert!(found.is_finite(), "{name}");
    }
}

#[test]
fn all_that_does_not_go_together_is_said_at_once() {
    let said = |held_to: OutputConfig, of: OutputShape, target: &Target| {
        let refused = checked(&config(vec![held_to]), &[of], &[target]).unwrap_err();
        refused.to_string()
    };
    let metrics = ["top_5_accuracy", "sparse_categorical_accuracy", "auc", "auc"];
    assert_eq!(
        said(
            held_to("sparse_categorical_crossentropy", &metrics),
            shape("a", &[3], false),
            &Target::Values(3)
        ),
        "loss: sparse_categorical_crossentropy needs classes, but the target is numbers; use \
         mean_squared_error\n\
         metrics: top_5_accuracy is always 1 of 3 outputs; use a smaller k\n\
         metrics: sparse_categorical_accuracy needs classes, but the target is numbers; use \
         categorical_accuracy\n\
         metrics: auc is there twice"
    );
    let metrics = ["categorical_accuracy", "f1_score", "kld"];
    assert_eq!(
        said(held_to("categorical_crossentropy", &metrics), shape("a", &[1], false), &classes(2)),
        "loss: categorical_crossentropy compares several outputs, but the network has one output; \
         use binary_crossentropy\n\
         metrics: categorical_accuracy compares several outputs, but the network has one output; \
         use binary_accuracy\n\
         metrics: f1_score of one output needs a threshold, such as f1_score(threshold=0.5)\n\
         metrics: kullback_leibler_divergence compares several outputs, but the network has one \
         output; use binary_crossentropy"
    );
    let logits = "categorical_crossentropy(from_logits=true)";
    assert_eq!(
        said(held_to(logits, &[]), shape("a", &[3], true), &classes(3)),
        "loss: categorical_crossentropy is to be from logits, but the network ends in a softmax; \
         drop from_logits, or the softmax"
    );
    assert_eq!(
        said(held_to("mse", &["r2_score"]), shape("a", &[2, 3], false), &Target::Values(6)),
        "metrics: r2_score needs outputs in a row, not of shape [2, 3]"
    );
}

#[test]
fn outputs_and_weights_that_do_not_match_are_counted() {
    let shapes = [shape("kind", &[3], true), shape("size", &[1], false)];
    let (kinds, sizes) = (classes(3), Target::Values(1));
    let three = config(vec![held_to("bce", &[]); 3]);
    let mut weighted = config(vec![OutputConfig {
        loss_weight: f64::NAN,
        ..held_to("categorical_crossentropy", &[])
    }]);
    weighted.class_weights = vec![1.0];
    let mut negative = config(vec![held_to("categorical_crossentropy", &[])]);
    negative.class_weights = vec![1.0, -1.0];
    let said = |config: &ModelConfig, outputs: usize| {
        let targets = [&kinds, &sizes];
        checked(config, &shapes[..outputs], &targets[..outputs]).unwrap_err().to_string()
    };
    assert_eq!(said(&three, 2), "loss: there are 3 for the network's 2 outputs; give one each");
    assert_eq!(
        said(&weighted, 2),
        "loss_weights of kind: must be a number, not NaN\n\
         loss of size: categorical_crossentropy compares several outputs, but the network has one \
         output; use mean_squared_error\n\
         loss_weights of size: must be a number, not NaN\n\
         class_weight: needs a network with one output"
    );
    assert_eq!(
        said(&negative, 1),
        "class_weight: there are 2 for 3 classes\n\
         class_weight: must be a number from 0 for \"class 1\", not -1"
    );
}
