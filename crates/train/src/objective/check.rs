//! Whether losses, metrics and class weights go together with a network's outputs and the target.

use arrowhop_types::{Loss, Metric, ModelConfig, OutputConfig, Problems, Target};

use super::OutputShape;

/// Says everything that does not, and what would.
pub(super) fn check(
    config: &ModelConfig,
    outputs: &[OutputShape],
    targets: &[&Target],
    problems: &mut Problems,
) {
    let (given, needed) = (config.outputs.len(), outputs.len());
    if given != 1 && given != needed {
        let text = format!("there are {given} for the network's {needed} outputs; give one each");
        problems.push("loss", text);
    }
    for (i, (output, target)) in outputs.iter().zip(targets).enumerate() {
        let Some(held_to) = config.outputs.get(i).or(config.outputs.first()) else { continue };
        let place = |field: &str| match needed {
            1 => field.to_owned(),
            _ => format!("{field} of {}", output.name),
        };
        check_output(held_to, output, target, &place, problems);
    }
    check_class_weights(&config.class_weights, targets, problems);
}

fn check_output(
    held_to: &OutputConfig,
    output: &OutputShape,
    target: &Target,
    place: &dyn Fn(&str) -> String,
    problems: &mut Problems,
) {
    if let Err(text) = check_loss(held_to.loss, output, target) {
        problems.push(place("loss"), text);
    }
    if !held_to.loss_weight.is_finite() {
        let text = format!("must be a number, not {}", held_to.loss_weight);
        problems.push(place("loss_weights"), text);
    }
    for (i, metric) in held_to.metrics.iter().enumerate() {
        if let Err(text) = check_metric(*metric, output, target) {
            problems.push(place("metrics"), text);
        }
        if held_to.metrics[..i].contains(metric) {
            problems.push(place("metrics"), format!("{metric} is there twice"));
        }
    }
}

fn check_loss(loss: Loss, output: &OutputShape, target: &Target) -> Result<(), String> {
    let (name, fitting) = (loss.name(), fitting(output, target));
    let from_logits = match loss {
        Loss::SparseCategoricalCrossentropy { .. } if !is_class(target) => {
            return Err(format!("{name} needs classes, but the target is numbers; use {fitting}"));
        }
        Loss::SparseCategoricalCrossentropy { from_logits } => from_logits,
        Loss::CategoricalCrossentropy(of) | Loss::BinaryCrossentropy(of) => of.from_logits,
        _ => false,
    };
    let compares = matches!(
        loss,
        Loss::CategoricalCrossentropy(_)
            | Loss::SparseCategoricalCrossentropy { .. }
            | Loss::KullbackLeiblerDivergence
            | Loss::CosineSimilarity
            | Loss::CategoricalHinge
    );
    if compares && output.width() == 1 {
        return Err(format!(
            "{name} compares several outputs, but the network has one output; use {fitting}"
        ));
    }
    if from_logits && output.gives_logits {
        return Err(format!(
            "{name} is to be from logits, but the network ends in a softmax; \
             drop from_logits, or the softmax"
        ));
    }
    Ok(())
}

/// The loss that one would take.
fn fitting(output: &OutputShape, target: &Target) -> &'static str {
    match target {
        Target::Values(_) => "mean_squared_error",
        Target::Classes(names) if names.len() == 2 && output.width() == 1 => "binary_crossentropy",
        Target::Classes(_) => "categorical_crossentropy and one output per class",
    }
}

fn check_metric(metric: Metric, output: &OutputShape, target: &Target) -> Result<(), String> {
    let width = output.width();
    match metric {
        Metric::SparseCategoricalAccuracy | Metric::SparseTopKCategoricalAccuracy { .. }
            if !is_class(target) =>
        {
            let usual = metric.to_string().replace("sparse_", "");
            Err(format!("{metric} needs classes, but the target is numbers; use {usual}"))
        }
        Metric::CategoricalAccuracy
        | Metric::SparseCategoricalAccuracy
        | Metric::TopKCategoricalAccuracy { .. }
        | Metric::SparseTopKCategoricalAccuracy { .. }
            if width == 1 =>
        {
            Err(format!(
                "{metric} compares several outputs, but the network has one output; \
                 use binary_accuracy"
            ))
        }
        Metric::TopKCategoricalAccuracy { k } | Metric::SparseTopKCategoricalAccuracy { k }
            if k as usize > width =>
        {
            Err(format!("{metric} is always 1 of {width} outputs; use a smaller k"))
        }
        Metric::F1Score { threshold: None, .. } if width == 1 => Err(format!(
            "{metric} of one output needs a threshold, such as f1_score(threshold=0.5)"
        )),
        Metric::F1Score { .. } | Metric::R2Score if output.shape.len() > 1 => {
            Err(format!("{metric} needs outputs in a row, not of shape {:?}", output.shape))
        }
        Metric::Loss(loss) => check_loss(loss, output, target),
        _ => Ok(()),
    }
}

fn check_class_weights(weights: &[f64], targets: &[&Target], problems: &mut Problems) {
    let place = "class_weight";
    match targets {
        _ if weights.is_empty() => {}
        [Target::Classes(names)] => {
            if weights.len() != names.len() {
                let text = format!("there are {} for {} classes", weights.len(), names.len());
                problems.push(place, text);
            }
            for (class, weight) in weights.iter().enumerate() {
                if !(weight.is_finite() && *weight >= 0.0) {
                    let name = names.shown(class);
                    let text = format!("must be a number from 0 for {name:?}, not {weight}");
                    problems.push(place, text);
                }
            }
        }
        [Target::Values(_)] => problems.push(place, "needs classes, but the target is numbers"),
        _ => problems.push(place, "needs a network with one output"),
    }
}

fn is_class(target: &Target) -> bool {
    matches!(target, Target::Classes(_))
}
