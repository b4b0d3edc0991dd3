//! Runs as they were submitted: written in one transaction, read back equal.

use arrowhop_types::{
    DataSet, DataSetId, Encoding, Objective, Problems, RunId, RunSpec, ShardId, SourceRecord,
    Timestamp, VisitOrder,
};
use rusqlite::{Row, Transaction, params};

use crate::error::Fault;
use crate::words::Word;
use crate::{Catalog, CatalogError, configs, data_sets, row};

impl Catalog {
    /// Records a run, queued, and numbers it. `submitted_at` counts from the Unix epoch.
    ///
    /// # Errors
    /// [`CatalogError::InvalidSpec`] when the run could not be read back as it is,
    /// [`CatalogError::DataSetDiffers`] when its data set is on record with other content.
    pub fn submit(
        &mut self,
        spec: &RunSpec,
        submitted_at: Timestamp,
    ) -> Result<RunId, CatalogError> {
        check(spec).map_err(CatalogError::InvalidSpec)?;
        self.write("submit a run", |transaction| {
            data_sets::write(transaction, &spec.data)?;
            let run = write(transaction, spec, submitted_at)?;
            write_sources(transaction, run, &spec.sources)?;
            configs::write(transaction, run, spec)?;
            Ok(run)
        })
    }

    /// A run as it was submitted.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn spec(&self, run: RunId) -> Result<RunSpec, CatalogError> {
        self.read("read a run", |transaction| read(transaction, run))
    }
}

/// A run as it was submitted.
pub(crate) fn read(transaction: &Transaction<'_>, run: RunId) -> Result<RunSpec, Fault> {
    let mut statement = transaction.prepare_cached("SELECT * FROM runs WHERE id = ?1")?;
    let mut rows = statement.query([run.0])?;
    let Some(row) = rows.next()? else {
        return Err(CatalogError::NoSuchRun { run }.into());
    };
    let configs = configs::read(transaction, run)?;
    Ok(RunSpec {
        name: row.get("name")?,
        seed: seed(row)?,
        epochs: row.get("epochs")?,
        architectures: configs::read_architectures(transaction, run)?,
        prescribed: if row.get("is_prescribed")? {
            configs::read_prescribed(transaction, run, configs.len())?
        } else {
            Vec::new()
        },
        configs,
        data: data(transaction, row)?,
        sources: sources(transaction, run)?,
        objective: objective(row)?,
        train_metrics: row::word(row, "train_metrics")?,
        order: visit_order(row)?,
        checkpoints: row::word(row, "checkpoint_policy")?,
        reset_optimizer_each_visit: row.get("reset_optimizer_each_visit")?,
        bounds: row::texts(row, "bounds")?,
        experiment: row.get("experiment")?,
    })
}

/// The objective in a row of `runs`.
pub(crate) fn objective(row: &Row<'_>) -> rusqlite::Result<Objective> {
    let name: String = row.get("objective_metric")?;
    let direction = row::word(row, "objective_direction")?;
    match Objective::split(&name) {
        Some((part, metric)) => Ok(Objective { part, metric: metric.to_owned(), direction }),
        None => Err(row::unknown_word("objective_metric", name)),
    }
}

fn write(
    transaction: &Transaction<'_>,
    spec: &RunSpec,
    submitted_at: Timestamp,
) -> Result<RunId, Fault> {
    let (visit_order, visit_order_run) = match spec.order {
        VisitOrder::Free => ("free", None),
        VisitOrder::Planned => ("planned", None),
        VisitOrder::As(run) => ("as", Some(run.0)),
    };
    let number = transaction
        .prepare_cached(
            "INSERT INTO runs (name, seed, epochs, data_set, data_set_name, objective_metric,
                 objective_direction, train_metrics, visit_order, visit_order_run, is_prescribed,
                 checkpoint_policy, reset_optimizer_each_visit, bounds, experiment, status,
                 submitted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, 'queued',
                     ?16)
             RETURNING id",
        )?
        .query_row(
            params![
                spec.name,
                spec.seed.to_string(),
                spec.epochs,
                spec.data.id.to_string(),
                spec.data.name,
                spec.objective.name(),
                spec.objective.direction.word(),
                spec.train_metrics.word(),
                visit_order,
                visit_order_run,
                !spec.prescribed.is_empty(),
                spec.checkpoints.word(),
                spec.reset_optimizer_each_visit,
                serde_json::json!(spec.bounds).to_string(),
                spec.experiment,
                submitted_at.0,
            ],
            |row| row.get(0),
        )?;
    Ok(RunId(number))
}

fn write_sources(
    transaction: &Transaction<'_>,
    run: RunId,
    sources: &[SourceRecord],
) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO run_sources (run, position, name, rows, version, way, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (position, source) in sources.iter().enumerate() {
        let SourceRecord { name, rows, version, way, digest } = source;
        let digest = digest.map(|digest| digest.to_string());
        insert.execute(params![run.0, position, name, rows, version, way, digest])?;
    }
    Ok(())
}

fn sources(transaction: &Transaction<'_>, run: RunId) -> Result<Vec<SourceRecord>, Fault> {
    let mut statement =
        transaction.prepare_cached("SELECT * FROM run_sources WHERE run = ?1 ORDER BY position")?;
    let source = |row: &Row<'_>| {
        Ok(SourceRecord {
            name: row.get("name")?,
            rows: row.get("rows")?,
            version: row.get("version")?,
            way: row.get("way")?,
            digest: row
                .get::<_, Option<String>>("digest")?
                .map(|text| text.parse())
                .transpose()
                .map_err(row::mismatch)?,
        })
    };
    Ok(statement.query_map([run.0], source)?.collect::<Result<_, _>>()?)
}

fn seed(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, String>("seed")?.parse().map_err(row::mismatch)
}

fn data(transaction: &Transaction<'_>, row: &Row<'_>) -> Result<DataSet, Fault> {
    let id = DataSetId(row::digest(row, "data_set")?);
    let data = data_sets::read(transaction, id, row.get("data_set_name")?)?;
    Ok(data.expect("runs refer to data sets by a foreign key"))
}

fn visit_order(row: &Row<'_>) -> rusqlite::Result<VisitOrder> {
    let word: String = row.get("visit_order")?;
    match word.as_str() {
        "free" => Ok(VisitOrder::Free),
        "planned" => Ok(VisitOrder::Planned),
        "as" => row.get("visit_order_run").map(|run| VisitOrder::As(RunId(run))),
        _ => Err(row::unknown_word("visit_order", word)),
    }
}

/// What would not come back as it went in: everything else is checked where a run is composed.
fn check(spec: &RunSpec) -> Result<(), Problems> {
    let mut problems = Problems::new();
    for (position, architecture) in spec.architectures.iter().enumerate() {
        if spec.architectures[..position].iter().any(|other| other.name == architecture.name) {
            let place = format!("architecture {:?}", architecture.name);
            problems.push(place, "is named twice; name architectures apart");
        }
    }
    for (model, config) in spec.models() {
        let place = || format!("model {model}");
        if spec.architecture(&config.architecture).is_none() {
            let text = format!("there is no architecture {:?}; add it", config.architecture);
            problems.push(place(), text);
        }
        if let Err(found) = config.optimizer.check() {
            problems.extend(&format!("{}: optimizer.", place()), &found);
        }
        let weights = config.outputs.iter().map(|output| ("loss_weight", &output.loss_weight));
        let classes = config.class_weights.iter().map(|weight| ("class_weight", weight));
        for (name, _) in weights.chain(classes).filter(|(_, weight)| weight.is_nan()) {
            problems.push(place(), format!("{name} is not a number; give one"));
        }
    }
    for input in &spec.data.inputs {
        if matches!(input.encoding, Encoding::Numbers { normalize } if normalize.is_nan()) {
            let place = format!("normalize of {}", input.name);
            problems.push(place, "is not a number; give one");
        }
    }
    for (number, info) in (0..).zip(&spec.data.shards) {
        if info.shard != ShardId(number) {
            let text = format!("stands where shard {number} should; number shards from 0");
            problems.push(format!("shard {}", info.shard), text);
        }
    }
    check_prescribed(spec, &mut problems);
    problems.or(())
}

fn check_prescribed(spec: &RunSpec, problems: &mut Problems) {
    let (orders, models) = (spec.prescribed.len(), spec.configs.len());
    if orders != 0 && orders != models {
        let text = format!("there are {orders} for {models} models; give one to each, or none");
        problems.push("prescribed orders", text);
    }
    for ((model, _), order) in spec.models().zip(&spec.prescribed) {
        for shard in order {
            if shard.0 as usize >= spec.data.shards.len() {
                let text = format!("names shard {shard} of {}", spec.data.shards.len());
                problems.push(format!("prescribed order of model {model}"), text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use arrowhop_types::optimizer::LearningRate;
    use arrowhop_types::{Classify, ErrorClass};
    use proptest::test_runner::{Config, RngSeed, TestRunner};

    use super::*;
    use crate::samples;

    #[test]
    fn any_run_comes_back_as_it_went_in() {
        let state = tempfile::tempdir().unwrap();
        let catalog = RefCell::new(Catalog::open(state.path()).unwrap());
        let config = Config {
            cases: 128,
            rng_seed: RngSeed::Fixed(7),
            failure_persistence: None,
            ..Config::default()
        };
        TestRunner::new(config)
            .run(&samples::any_spec(), |spec| {
                let mut catalog = catalog.borrow_mut();
                let run = catalog.submit(&spec, Timestamp(9)).unwrap();
                assert_eq!(catalog.spec(run).unwrap(), spec);
                let record = catalog.run(run).unwrap();
                assert_eq!(record.spec, spec);
                assert_eq!(record.models.len(), spec.configs.len());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn runs_are_numbered_from_one_and_an_unknown_one_names_the_next_step() {
        let state = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(state.path()).unwrap();
        let spec = samples::spec(1, 1);
        assert_eq!(catalog.submit(&spec, Timestamp(0)).unwrap(), RunId(1));
        assert_eq!(catalog.submit(&spec, Timestamp(0)).unwrap(), RunId(2));
        let error = catalog.spec(RunId(3)).unwrap_err();
        assert!(matches!(error, CatalogError::NoSuchRun { run: RunId(3) }));
        assert_eq!(error.class(), ErrorClass::Missing);
        assert_eq!(error.to_string(), "no run 3 in the catalog; `arrowhop runs` lists them");
    }

    #[test]
    fn everything_that_would_not_come_back_is_reported_at_once() {
        let state = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(state.path()).unwrap();
        let mut spec = samples::spec(2, 2);
        spec.architectures.push(spec.architectures[0].clone());
        spec.configs[0].architecture = "absent".into();
        spec.configs[1].optimizer.learning_rate = LearningRate::Constant(f64::INFINITY);
        spec.data.shards[1].shard = ShardId(2);
        spec.data.inputs[0].encoding = Encoding::Numbers { normalize: f32::NAN };
        spec.prescribed = vec![vec![ShardId(5)]];
        let CatalogError::InvalidSpec(problems) = catalog.submit(&spec, Timestamp(0)).unwrap_err()
        else {
            panic!("the run was recorded")
        };
        assert_eq!(
            problems.to_string().lines().collect::<Vec<_>>(),
            [
                "architecture \"dense\": is named twice; name architectures apart",
                "model 1: there is no architecture \"absent\"; add it",
                "model 2: optimizer.learning_rate: must be a number above 0, not inf",
                "normalize of x: is not a number; give one",
                "shard 2: stands where shard 1 should; number shards from 0",
                "prescribed orders: there are 1 for 2 models; give one to each, or none",
                "prescribed order of model 1: names shard 5 of 2",
            ]
        );
        assert!(catalog.runs().unwrap().is_empty());
    }
}
