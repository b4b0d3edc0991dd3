//! An experiment file: what to train, on what, how to choose. `schemas/experiment.toml` shows every
//! key. Reading it opens no other file; all its problems are reported at once.

mod columns;
mod data;
mod fields;
mod input;
mod networks;
mod optimizer;
mod search;
mod terms;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use arrowhop_search::Space;
use arrowhop_source::{DataSpec, Origin};
use arrowhop_types::{CheckpointPolicy, Metric, Problems, RunId, TrainMetrics};
use toml::{Table, Value};

use self::fields::Fields;
pub use self::networks::{NetworkSource, WeightsSource};
pub use self::terms::{ClassWeight, OutputTerms, Wanted};

/// The only format of experiment files so far.
const FORMAT: u64 = 1;
/// Epochs are numbered in 16 bits of a random stream's id.
const EPOCHS_MAX: u64 = 65_535;

/// An experiment, checked as far as it can be without opening other files.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// For people.
    pub name: String,
    /// Root of every random draw.
    pub seed: u64,
    /// Epochs of every model.
    pub epochs: u32,
    /// How models are ranked; by default validation before training, accuracy before loss.
    pub objective: Option<Wanted>,
    /// Where training metrics come from.
    pub train_metrics: TrainMetrics,
    /// Whether the order of visits is planned beforehand.
    pub planned: bool,
    /// When states go to the model store.
    pub checkpoints: CheckpointPolicy,
    /// MADlib's optimizer restarts.
    pub reset_optimizer_each_visit: bool,
    /// The run whose models' weights the models start from.
    pub warm_start: Option<RunId>,
    /// The data.
    pub data: DataSpec,
    /// The configurations.
    pub search: Search,
    /// The file as it is to be recorded: bounds applied, paths absolute.
    pub text: String,
    /// What cut it short.
    pub bounds: Vec<String>,
}

/// How configurations are chosen.
#[derive(Debug, Clone)]
pub struct Search {
    /// Every combination, or draws.
    pub method: Method,
    /// For draws: how many.
    pub configs: Option<u32>,
    /// At most this many configurations, the first ones.
    pub configs_max: Option<u32>,
    /// What to choose from.
    pub space: Space,
    /// What every output is measured by; by default accuracy, where its target is classes.
    pub metrics: Option<Vec<Metric>>,
    /// What single outputs are held to instead, by the output's name or its target's.
    pub outputs: BTreeMap<String, OutputTerms>,
    /// What rows count in training.
    pub class_weight: Option<ClassWeight>,
    /// The networks, in the order of the space's architectures.
    pub networks: Vec<NetworkSource>,
}

/// How configurations are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Every combination.
    Grid,
    /// Independent draws.
    Random,
}

/// Bounds given on the command line; each cuts the experiment short.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Bounds {
    /// Train on at most this many rows, drawn at random
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub max_rows: Option<i64>,
    /// Train for at most this many epochs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub epochs: Option<i64>,
    /// Train at most this many configurations, the first ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub configs: Option<i64>,
}

impl Experiment {
    /// Reads a file. Relative data paths start at `data` or else at the file's folder; relative
    /// network paths always at the file's folder.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or with all [`Problems`] of what it says.
    pub fn read(file: &Path, data: Option<&Path>, bounds: Bounds) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("read the experiment {}", file.display()))?;
        let folder = std::path::absolute(file)?.parent().map(Path::to_owned).unwrap_or_default();
        let data = data.map_or_else(|| Ok(folder.clone()), std::path::absolute)?;
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
            Problems::one(file.display().to_string(), error.to_string())
        })?;
        make_absolute(&mut table, &folder, &data);
        let bounds = apply(&mut table, bounds);
        Ok(Self::from_table(table, bounds).map_err(|found| {
            let mut problems = Problems::new();
            problems.extend(&format!("{}: ", file.display()), &found);
            problems
        })?)
    }

    /// Reads the text that was recorded with a run. Its data files are looked for in the folder
    /// `data`, where one is given, instead of where they were.
    ///
    /// # Errors
    /// As [`Experiment::read`].
    pub fn recorded(text: &str, data: Option<&Path>, bounds: Vec<String>) -> anyhow::Result<Self> {
        let mut table: Table = text.parse().context("read the experiment recorded with the run")?;
        if let Some(folder) = data {
            let folder = std::path::absolute(folder)?;
            each_data_file(&mut table, |path| folder.join(path.file_name().unwrap_or_default()));
        }
        Ok(Self::from_table(table, bounds)?)
    }

    /// Makes the models start from those of an earlier run, and the recorded text say so.
    ///
    /// # Errors
    /// When the run's number is larger than TOML's integers.
    pub fn start_from(&mut self, run: RunId) -> Result<(), Problems> {
        let number =
            i64::try_from(run.0).map_err(|error| Problems::one("warm_start", error.to_string()))?;
        let mut table: Table = self.text.parse().expect("it was written as TOML");
        table.insert("warm_start".to_owned(), Value::Integer(number));
        self.text = toml::to_string(&table).expect("a TOML table is written as TOML");
        self.warm_start = Some(run);
        Ok(())
    }

    /// Reads tables of PostgreSQL the way of this name, whatever the file says, and makes the recorded
    /// text say so.
    ///
    /// # Panics
    /// When there is no such way.
    pub fn access_by(&mut self, name: &str) {
        let known = data::ACCESS.iter().find(|(known, _)| *known == name);
        let (_, access) = *known.expect("the command line knows the ways");
        let mut table: Table = self.text.parse().expect("it was written as TOML");
        let Origin::Tables { train, validation, test, .. } = &mut self.data.origin else { return };
        for location in [Some(train), validation.as_mut(), test.as_mut()].into_iter().flatten() {
            if let Some(request) = location.request_mut() {
                request.access = access;
                if let Some(Value::Table(section)) = table.get_mut("data") {
                    section.insert("access".to_owned(), Value::String(name.to_owned()));
                }
            }
        }
        self.text = toml::to_string(&table).expect("a TOML table is written as TOML");
    }

    fn from_table(table: Table, bounds: Vec<String>) -> Result<Self, Problems> {
        let text = toml::to_string(&table).expect("a TOML table is written as TOML");
        let mut problems = Problems::new();
        let mut fields = Fields::new(table, "", &mut problems);
        match fields.count("version", u64::MAX) {
            Some(FORMAT) => {}
            Some(other) => {
                fields.wrong("version", format!("{other} is not known; this is {FORMAT}"))
            }
            None => fields.wrong("version", format!("is missing; write version = {FORMAT}")),
        }
        let name = fields.text("name").unwrap_or_else(|| "experiment".to_owned());
        let seed = fields.seed("seed").unwrap_or(1);
        let epochs = fields.count("epochs", EPOCHS_MAX);
        if epochs.is_none() {
            fields.wrong("epochs", "is needed: how often each model sees every row");
        }
        let objective = terms::objective(&mut fields);
        let train_metrics = fields.choice(
            "train_metrics",
            &[("evaluate", TrainMetrics::Evaluate), ("running", TrainMetrics::Running)],
        );
        let planned = fields.choice("order", &[("free", false), ("planned", true)]);
        let checkpoints = fields.choice(
            "checkpoints",
            &[
                ("every-visit", CheckpointPolicy::EveryVisit),
                ("every-epoch", CheckpointPolicy::EveryEpoch),
            ],
        );
        let reset = fields.flag("reset_optimizer_each_visit");
        let warm_start = fields.count("warm_start", u64::MAX).map(RunId);
        let data_table = fields.table("data");
        let search_table = fields.table("search");
        fields.finish();
        let data = data::read(data_table, &name, seed, &mut problems);
        let search = search::read(search_table, &mut problems);
        let (Some(epochs), Some(data), Some(search)) = (epochs, data, search) else {
            return Err(problems);
        };
        problems.or(Self {
            name,
            seed,
            epochs: u32::try_from(epochs).expect("at most 65,535"),
            objective,
            train_metrics: train_metrics.unwrap_or(TrainMetrics::Evaluate),
            planned: planned.unwrap_or(false),
            checkpoints: checkpoints.unwrap_or(CheckpointPolicy::EveryEpoch),
            reset_optimizer_each_visit: reset.unwrap_or(false),
            warm_start,
            data,
            search,
            text,
            bounds,
        })
    }
}

/// Makes every path absolute, so that the recorded experiment can be resumed from anywhere.
fn make_absolute(table: &mut Table, folder: &Path, data: &Path) {
    each_data_file(table, |path| data.join(path));
    if let Some(Value::Table(section)) = table.get_mut("search")
        && let Some(Value::Array(networks)) = section.get_mut("networks")
    {
        for network in networks {
            if let Value::Table(table) = network {
                for key in ["file", "weights"] {
                    if let Some(value) = table.get_mut(key) {
                        change_path(value, |path| folder.join(path));
                    }
                }
            }
            change_path(network, |path| folder.join(path));
        }
    }
}

/// Changes the path of every data file.
fn each_data_file(table: &mut Table, change: impl Fn(&Path) -> PathBuf) {
    if let Some(Value::Table(section)) = table.get_mut("data") {
        for key in ["train", "validation", "test"] {
            if let Some(value) = section.get_mut(key) {
                change_path(value, &change);
            }
        }
    }
}

fn change_path(value: &mut Value, change: impl Fn(&Path) -> PathBuf) {
    if let Value::String(path) = value
        && !path.contains("://")
    {
        *path = change(Path::new(&*path)).to_string_lossy().into_owned();
    }
}

/// Writes the bounds into the experiment where they are tighter than it, and says which were.
fn apply(table: &mut Table, bounds: Bounds) -> Vec<String> {
    let mut said = Vec::new();
    let mut bound = |table: &mut Table, key: &str, flag: &str, limit: Option<i64>| {
        let Some(limit) = limit else { return };
        if table.get(key).and_then(Value::as_integer).is_none_or(|value| value > limit) {
            table.insert(key.to_owned(), Value::Integer(limit));
            said.push(format!("{flag} {limit}"));
        }
    };
    bound(table, "epochs", "--epochs", bounds.epochs);
    if let Some(Value::Table(data)) = table.get_mut("data") {
        bound(data, "max_rows", "--max-rows", bounds.max_rows);
    }
    if let Some(Value::Table(search)) = table.get_mut("search") {
        bound(search, "configs_max", "--configs", bounds.configs);
    }
    said
}

#[cfg(test)]
mod tests {
    use arrowhop_source::Location;
    use arrowhop_types::{Direction, Loss, Part};

    use super::*;

    const GOOD: &str = r#"
        version = 1
        epochs = 10
        [data]
        train = "rows.parquet"
        input = "image"
        target = "label"
        [search]
        networks = ["net.json"]
        batch_size = [32]
        [[search.optimizer]]
        name = "adam"
        learning_rate = [1e-3, 1e-4]
    "#;

    fn read(text: &str) -> Result<Experiment, Problems> {
        Experiment::from_table(text.parse().unwrap(), vec![])
    }

    #[test]
    fn a_small_experiment_reads_with_its_defaults() {
        let experiment = read(GOOD).unwrap();
        assert_eq!((experiment.epochs, experiment.seed), (10, 1));
        assert_eq!(experiment.search.method, Method::Grid);
        assert_eq!(experiment.search.space.architectures, ["net"]);
        assert_eq!(experiment.data.shards, 4);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let text = GOOD
            .replace("epochs = 10", "epochs = 0\nepoch = 3")
            .replace("target", "targets")
            .replace("[32]", "[0.5]")
            .replace("\"adam\"", "\"adamm\"");
        let problems = read(&text).unwrap_err().to_string();
        for part in [
            "epochs: 0 is not",
            "epoch: unknown key",
            "data.target: is needed",
            "data.targets: unknown key",
            "search.batch_size: [0.5] is not",
            "adamm",
        ] {
            assert!(problems.contains(part), "{part} is missing from:\n{problems}");
        }
    }

    #[test]
    fn classes_test_rows_and_packed_tables_are_read() {
        let text = GOOD.replace(
            "target = \"label\"",
            "target = 'label'\nnum_classes = 5\nnull_class = true\ntest = 't.parquet'\npacked = true",
        );
        let experiment = read(&text).unwrap();
        let Origin::Tables { train, test, targets, .. } = &experiment.data.origin else {
            panic!("no tables")
        };
        assert_eq!((targets[0].num_classes, targets[0].null_class), (Some(5), true));
        for (location, summary) in
            [(Some(train), "rows_summary.parquet"), (test.as_ref(), "t_summary.parquet")]
        {
            let Some(Location::Packed { summary: found, .. }) = location else { panic!("plain") };
            assert_eq!(**found, Location::of(summary));
        }
        let split = GOOD.replace("target =", "test_fraction = 0.25\ntarget =");
        assert_eq!(read(&split).unwrap().data.test_fraction, Some(0.25));
        let query = GOOD.replace(
            "train = \"rows.parquet\"",
            "query = 'SELECT 1'\nserver = 'host=h user=u dbname=d'\npacked = true",
        );
        let problems = read(&query).unwrap_err().to_string();
        assert!(problems.contains("data.packed: goes with a table or a file"), "{problems}");
    }

    #[test]
    fn bounds_are_applied_and_said_only_where_they_bite() {
        let mut table: Table = GOOD.parse().unwrap();
        let bounds = Bounds { max_rows: Some(500), epochs: Some(20), configs: Some(1) };
        assert_eq!(apply(&mut table, bounds), ["--max-rows 500", "--configs 1"]);
        let experiment = Experiment::from_table(table, vec![]).unwrap();
        assert_eq!(experiment.epochs, 10);
        assert_eq!(experiment.data.max_rows, Some(500));
        assert_eq!(experiment.search.configs_max, Some(1));
    }

    #[test]
    fn losses_and_metrics_are_names_with_parameters() {
        let text = format!(
            "objective = {{ metric = 'validation_AUC', direction = 'minimize' }}\n{}",
            GOOD.replace(
                "batch_size = [32]",
                "loss = ['mse', {name = 'huber', delta = 0.5}]\n\
                 metrics = ['acc', 'top_5_accuracy', {name = 'f1_score', average = 'micro'}]\n\
                 class_weight = {cat = 2, dog = 0.5}"
            )
        );
        let experiment = read(&text).unwrap();
        let wanted = experiment.objective.unwrap();
        assert_eq!((wanted.part, wanted.metric.as_str()), (Part::Validation, "auc"));
        assert_eq!(wanted.direction, Some(Direction::Minimize));
        let search = experiment.search;
        let losses = &search.space.compiles[0].losses;
        assert_eq!(*losses, [Loss::MeanSquaredError, Loss::Huber { delta: 0.5 }]);
        let metrics: Vec<_> = search.metrics.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(metrics, ["accuracy", "top_5_accuracy", "f1_score(average=micro)"]);
        let weights = [("cat".to_owned(), 2.0), ("dog".to_owned(), 0.5)];
        assert_eq!(search.class_weight, Some(ClassWeight::ByName(weights.into())));
    }

    #[test]
    fn every_wrong_name_is_reported_at_once() {
        let text = format!(
            "objective = 'auc'\n{}",
            GOOD.replace(
                "batch_size = [32]",
                "loss = ['msee', {name = 'huber', delta = 0}, 3]\n\
                 metrics = ['auc(points=3)']\nclass_weight = 'balance'"
            )
        );
        let problems = read(&text).unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
        let expected = [
            "objective",
            "search.loss",
            "search.loss",
            "search.loss",
            "search.metrics",
            "search.class_weight",
        ];
        assert_eq!(places, expected, "{problems}");
        assert!(problems.to_string().contains("\"msee\" is no loss; known: categorical_cross"));
        assert!(problems.to_string().contains("auc has no parameter points; it has num_thresh"));
    }

    #[test]
    fn the_recorded_text_reads_as_the_same_experiment() {
        let first = read(GOOD).unwrap();
        let again = Experiment::recorded(&first.text, None, vec![]).unwrap();
        assert_eq!(again.data, first.data);
        assert_eq!(again.text, first.text);
        let moved = Experiment::recorded(&first.text, Some(Path::new("/elsewhere")), vec![]);
        let text = moved.unwrap().text;
        assert!(text.contains("train = \"/elsewhere/rows.parquet\""), "{text}");
    }
}
