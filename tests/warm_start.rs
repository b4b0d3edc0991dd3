//! Models that start from weights that were given: by a file, in part or whole, or by an earlier run.
//! Whatever they start from, their record alone makes them again.

use std::fs;
use std::path::Path;

use arrowhop_tests::{Cluster, Experiment, Program, workspace};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

/// An experiment on generated shapes with these networks, as TOML, and these learning rates of SGD.
fn experiment(networks: &str, rates: &str, more: &str) -> Experiment {
    let folder = workspace().join("examples/networks");
    Experiment::new(&format!(
        r#"
version = 1
epochs = 2
{more}
[data]
generate = {{ kind = "shapes", rows = 120, validation_rows = 40 }}
shards = 3
[search]
networks = [{}]
batch_size = [16]
[[search.optimizer]]
name = "sgd"
learning_rate = [{rates}]
"#,
        networks.replace("NETWORKS", &folder.display().to_string())
    ))
}

const MLP: &str = r#""NETWORKS/shapes_mlp.json""#;

fn fit(program: &Program, experiment: &Experiment, more: &[&str]) -> (Value, String) {
    let file = experiment.argument();
    let mut arguments = vec!["fit", &file, "--output", "json"];
    arguments.extend(more);
    let finished = program.run(&arguments);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    (serde_json::from_str(&finished.stdout).expect("JSON alone"), finished.stderr)
}

/// A model's weights as raw numbers, and its folder of exported files.
fn export(program: &Program, folder: &Path, run: u32, model: u32) -> Vec<u8> {
    let (run, model, to) = (run.to_string(), model.to_string(), folder.display().to_string());
    let export = ["export", "weights", &run, "--model", &model, "--to", &to];
    let exported = program.run(&[&export[..], &["--format", "f32,npz,h5,keras"]].concat());
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    fs::read(folder.join("weights.f32")).expect("it was written")
}

fn assert_replays(program: &Program, run: u32, model: u32) {
    let (run, model) = (run.to_string(), model.to_string());
    let replayed = program.json(&["replay", &run, &model, "--output", "json"]);
    assert_eq!(replayed["different"], 0, "{replayed}");
}

/// A model's entry in a leaderboard.
fn entry(result: &Value, model: u32) -> &Value {
    let models = result["models"].as_array().expect("models are listed");
    models.iter().find(|entry| entry["model"] == model).expect("the model is listed")
}

#[test]
fn a_file_s_weights_are_what_every_model_of_the_network_starts_from() {
    let program = Program::new(BINARY);
    let first = experiment(MLP, "0.05", "");
    let (result, _) = fit(&program, &first, &[]);
    assert_eq!(entry(&result, 1)["initial_digest"], Value::Null, "it was drawn");
    let out = first.folder().join("out");
    let trained = export(&program, &out, 1, 1);
    for file in ["weights.f32", "weights.npz", "model.weights.h5", "model.keras"] {
        let network = |name: &str, freeze: &str| {
            let out = out.display();
            format!(
                r#"{{ file = "{out}/architecture.json", name = "{name}", weights = "{out}/{file}", freeze = [{freeze}] }}"#
            )
        };
        let networks = [network("still", "\"*\""), network("moving", "")].join(", ");
        let again = experiment(&networks, "0.05", "");
        let (result, said) = fit(&program, &again, &[]);
        let run = result["run"].as_u64().and_then(|run| u32::try_from(run).ok());
        let run = run.expect("a run has a number");
        assert!(said.contains(&format!("moving starts from {}", out.display())), "{said}");
        for model in [1, 2] {
            let given = &entry(&result, model)["initial_digest"];
            assert!(given.is_string(), "{file}: model {model}");
        }
        assert_eq!(export(&program, again.folder(), run, 1), trained, "{file}: nothing is learnt");
        assert_ne!(export(&program, again.folder(), run, 2), trained, "{file}: something is");
        assert_replays(&program, run, 2);
    }
}

#[test]
fn a_whole_model_of_keras_is_a_network_with_its_weights() {
    let program = Program::new(BINARY);
    let first = experiment(MLP, "0.05", "");
    let _ = fit(&program, &first, &[]);
    let out = first.folder().join("out");
    let trained = export(&program, &out, 1, 1);
    let file = out.join("model.keras").display().to_string();
    let network = format!(r#"{{ file = "{file}", weights = "{file}", freeze = ["*"] }}"#);
    let again = experiment(&network, "0.05", "");
    let _ = fit(&program, &again, &[]);
    assert_eq!(export(&program, again.folder(), 2, 1), trained);
}

#[test]
fn a_run_goes_on_from_an_earlier_one_model_by_model() {
    let program = Program::new(BINARY);
    let first = experiment(MLP, "0.05, 0.1", "");
    let _ = fit(&program, &first, &[]);
    let trained = [1, 2].map(|model| export(&program, first.folder(), 1, model));

    // The same configurations in another order, and a new one.
    let second = experiment(MLP, "0.1, 0.05, 0.2", "");
    let (result, said) = fit(&program, &second, &["--warm-start", "1"]);
    for line in [
        "model 1 goes on from model 2 of run 1\n",
        "model 2 goes on from model 1 of run 1\n",
        "model 3 starts afresh: run 1 has no model like it left\n",
    ] {
        assert!(said.contains(line), "{line:?} is missing from: {said}");
    }
    assert!(entry(&result, 1)["initial_digest"].is_string());
    assert_eq!(entry(&result, 3)["initial_digest"], Value::Null);
    for model in 1..=3 {
        assert_replays(&program, 2, model);
    }
    let losses = |result: &Value, model| {
        let history = entry(result, model)["history"].as_array().expect("epochs").clone();
        history
            .iter()
            .map(|epoch| epoch["train_loss"].as_f64().expect("a loss"))
            .collect::<Vec<_>>()
    };
    assert!(
        losses(&result, 1)[0] < losses(&result, 3)[0],
        "a trained model is ahead of a fresh one"
    );

    // Other configurations go by their number; the experiment itself may say so.
    let frozen = r#"{ file = "NETWORKS/shapes_mlp.json", freeze = ["*"] }"#;
    let third = experiment(frozen, "0.2, 0.3", "warm_start = 1");
    let (_, said) = fit(&program, &third, &[]);
    assert!(
        said.contains("model 2 goes on from model 2 of run 1, configured differently"),
        "{said}"
    );
    for (model, trained) in (1..).zip(trained) {
        assert_eq!(export(&program, third.folder(), 3, model), trained, "model {model}");
    }
}

#[test]
fn a_frozen_network_with_trained_weights_scores_the_same_forever() {
    let program = Program::new(BINARY);
    let network = r#""NETWORKS/shapes_cnn_bn.json""#;
    let first = experiment(network, "0.05", "");
    let (result, _) = fit(&program, &first, &[]);
    let trained = entry(&result, 1)["history"][1].clone();
    let out = first.folder().join("out");
    export(&program, &out, 1, 1);
    let frozen = |weights: &str| {
        format!(r#"{{ file = "NETWORKS/shapes_cnn_bn.json", freeze = ["*"] {weights} }}"#)
    };
    let file = format!(r#", weights = "{}/model.weights.h5""#, out.display());
    let by_file = experiment(&frozen(&file), "0.05, 0.1", "");
    let by_run = experiment(&frozen(""), "0.05", "warm_start = 1");
    for experiment in [by_file, by_run] {
        let (result, _) = fit(&program, &experiment, &[]);
        for model in result["models"].as_array().expect("models are listed") {
            for epoch in model["history"].as_array().expect("epochs are listed") {
                for part in ["train", "validation"] {
                    let of = |epoch: &Value, metric| {
                        epoch[format!("{part}_{metric}")].as_f64().expect("a number")
                    };
                    let difference = (of(epoch, "loss") - of(&trained, "loss")).abs();
                    assert!(difference <= 1e-6, "{part}: {difference}");
                    let difference = (of(epoch, "accuracy") - of(&trained, "accuracy")).abs();
                    assert!(difference <= 1e-10, "{part}: {difference}");
                }
            }
        }
    }
}

/// Writes a network of dense layers on the shapes, with these hidden ones.
fn write_dense(folder: &Path, name: &str, layers: &[(&str, u32)]) {
    let flatten = json!({"class_name": "Flatten", "config": {"name": "flat", "batch_input_shape": [null, 16, 16, 1]}});
    let dense = |(name, units): &(&str, u32)| {
        let activation = if *name == "head" { "softmax" } else { "relu" };
        json!({"class_name": "Dense", "config": {"name": name, "units": units, "activation": activation}})
    };
    let layers: Vec<_> = std::iter::once(flatten).chain(layers.iter().map(dense)).collect();
    let model = json!({"class_name": "Sequential", "config": {"name": name, "layers": layers}});
    fs::write(folder.join(name), model.to_string()).expect("write a network");
}

#[test]
fn shared_layers_are_transferred_by_name_and_frozen_ones_stay() {
    let program = Program::new(BINARY);
    let first = experiment(r#""source.json""#, "0.05", "");
    write_dense(first.folder(), "source.json", &[("body", 12), ("neck", 8), ("head", 6)]);
    let _ = fit(&program, &first, &[]);
    let out = first.folder().join("out");
    let trained = export(&program, &out, 1, 1);
    let body = 4 * (256 * 12 + 12);
    for file in ["weights.npz", "model.weights.h5", "model.keras"] {
        let network = format!(
            r#"{{ file = "target.json", weights = "{}/{file}", transfer = "by-name", freeze = ["b?dy"] }}"#,
            out.display()
        );
        let second = experiment(&network, "0.05", "");
        write_dense(second.folder(), "target.json", &[("body", 12), ("waist", 7), ("head", 6)]);
        let (result, said) = fit(&program, &second, &[]);
        let run = result["run"].as_u64().and_then(|run| u32::try_from(run).ok()).expect("a run");
        for part in [
            "in body; drawn anew: waist (is not in the file), head (head/kernel: has shape [7, 6]",
            "in the file has [8, 6])",
        ] {
            assert!(said.contains(part), "{part:?} is missing from: {said}");
        }
        let weights = export(&program, second.folder(), run, 1);
        assert!(weights[..body] == trained[..body], "{file}: the body was given and is frozen");
        assert_replays(&program, run, 1);
    }
}

#[test]
fn a_cluster_is_given_first_weights_too() {
    let program = Program::new(BINARY);
    let cluster = Cluster::start(&program, 2);
    let first = experiment(MLP, "0.05", "order = \"planned\"");
    let on_cluster = ["--cluster", &*cluster.uri];
    let _ = fit(&program, &first, &on_cluster);
    let second = experiment(MLP, "0.05", "order = \"planned\"\nwarm_start = 1");
    let (clustered, _) = fit(&program, &second, &on_cluster);
    let replay = ["replay", "2", "1", "--cluster", &cluster.uri, "--output", "json"];
    assert_eq!(program.json(&replay)["different"], 0);
    cluster.stop();

    let alone = Program::new(BINARY);
    let _ = fit(&alone, &first, &[]);
    let (embedded, _) = fit(&alone, &second, &[]);
    for key in ["digest", "initial_digest"] {
        assert_eq!(entry(&embedded, 1)[key], entry(&clustered, 1)[key], "{key}");
    }
}

/// Refuses an experiment before anything is begun, and says these things.
fn refuse(program: &Program, experiment: &Experiment, code: i32, says: &[&str]) {
    let finished = program.run(&["fit", &experiment.argument()]);
    assert_eq!(finished.code, Some(code), "{}", finished.stderr);
    for part in says {
        assert!(finished.stderr.contains(part), "{part:?} is missing from: {}", finished.stderr);
    }
}

#[test]
fn weights_that_do_not_fit_are_named_all_at_once_before_anything_begins() {
    let program = Program::new(BINARY);
    let first = experiment(MLP, "0.05", "");
    let _ = fit(&program, &first, &[]);
    let out = first.folder().join("out");
    export(&program, &out, 1, 1);
    let path = |file: &str| out.join(file).display().to_string();

    let wrong = format!(
        r#"{{ file = "NETWORKS/shapes_linear.json", weights = "{}" }},
           {{ file = "NETWORKS/shapes_mlp.json", weights = "{}" }},
           {{ file = "NETWORKS/shapes_mlp.json", name = "again", freeze = ["conv*"] }}"#,
        path("model.weights.h5"),
        path("none.npz"),
    );
    refuse(
        &program,
        &experiment(&wrong, "0.05", ""),
        2,
        &["model.weights.h5: ", "has shape", "none.npz: file: ", "freeze[0]: \"conv*\" matches no"],
    );
    let wrong = r#"{ weights = "a.pickle" }, { file = "NETWORKS/shapes_mlp.json", transfer = "some" }, 7,
        "NETWORKS/shapes_cnn.json", "NETWORKS/shapes_cnn.json""#;
    refuse(
        &program,
        &experiment(wrong, "0.05", "warm_start = \"one\""),
        2,
        &[
            "search.networks[0].file: is needed",
            "search.networks[1].transfer: \"some\" is not one of whole, by-name",
            "search.networks[2]: 7 is neither a file nor",
            "search.networks: two are named shapes_cnn",
            "warm_start: \"one\" is not a whole number",
        ],
    );
    let both =
        format!(r#"{{ file = "NETWORKS/shapes_mlp.json", weights = "{}" }}"#, path("weights.npz"));
    let both = experiment(&both, "0.05", "warm_start = 1");
    refuse(&program, &both, 2, &["shapes_mlp: has `weights`, and the run goes on from another"]);
    refuse(&program, &experiment(MLP, "0.05", "warm_start = 9"), 5, &["run 9"]);
    let runs = program.json(&["runs", "--output", "json"]);
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "nothing was begun: {runs}");
}
