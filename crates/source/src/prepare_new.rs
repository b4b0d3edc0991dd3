//! Prepares new rows, to evaluate or to predict, exactly as a model's training rows were prepared.

use arrow::array::RecordBatch;
use arrowhop_types::{InputSpec, Part, Problems, TargetColumn};

use crate::deal::BatchRows;
use crate::encoder::Encoder;
use crate::error::{SourceError, gather, gather_input};
use crate::preparation::Preparation;
use crate::shapes::Shapes;
use crate::shards::{Buffers, batch_rows, into_batches};
use crate::spec::{Generator, Location};
use crate::table::Table;
use crate::target::Labels;
use crate::workspace::Workspace;

/// Where new rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum NewOrigin {
    /// A table.
    Table(Location),
    /// Rows in memory, of something longer.
    Batch {
        /// What messages call it.
        name: String,
        /// The rows.
        rows: RecordBatch,
        /// The number of the first one in messages.
        first_row: u64,
    },
    /// Rows made up by this program.
    Generated {
        /// Which, and how many.
        generator: Generator,
        /// The generator's seed; that of the training gives its very rows.
        seed: u64,
        /// Its training rows or its validation rows.
        part: Part,
    },
}

/// What to do with the target column of new rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetUse {
    /// Read it if it is there; several only together.
    #[default]
    IfPresent,
    /// Read it; without it there is nothing to compare with.
    Required,
    /// Leave it alone, whatever is in it.
    Ignored,
}

/// How many new rows, and with or without their target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewOptions {
    /// Takes only the first rows of the source.
    pub max_rows: Option<u64>,
    /// The target column.
    pub target: TargetUse,
}

/// New rows, prepared, in the order of their source.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRows {
    /// What each row is.
    pub inputs: Vec<InputSpec>,
    /// What the model learned.
    pub targets: Vec<TargetColumn>,
    /// Whether the batches have the targets' columns.
    pub has_targets: bool,
    /// The rows, laid out as a shard's batches are.
    pub batches: Vec<RecordBatch>,
    /// How many rows.
    pub rows: u64,
}

/// Prepares new rows by the preparation of a trained model's data set.
///
/// # Errors
/// [`SourceError::Input`] with everything that is wrong with the file;
/// [`SourceError::Preparation`] or [`SourceError::PreparationVersion`] where the preparation is not
/// one of this program; [`SourceError::Memory`] where the rows do not fit.
pub fn prepare_new(
    preparation: &str,
    origin: &NewOrigin,
    options: &NewOptions,
) -> Result<NewRows, SourceError> {
    let preparation = Preparation::from_text(preparation)?;
    if options.max_rows == Some(0) {
        return Err(Problems::one("max_rows", "is 0; give at least 1").into());
    }
    match origin {
        NewOrigin::Table(location) => {
            let (table, _) = location.source().open(None, &Workspace::in_memory())?;
            new_from_table(&preparation, &table, options)
        }
        NewOrigin::Batch { name, rows, first_row } => {
            let (schema, rows) = (rows.schema(), vec![rows.clone()]);
            let table = Table::of(name.clone(), schema, rows, &Workspace::in_memory())?;
            new_from_table(&preparation, &table.numbered_from(*first_row), options)
        }
        NewOrigin::Generated { generator, seed, part } => {
            new_from_generator(&preparation, generator, Shapes::new(*seed), *part, options)
        }
    }
}

fn new_from_table(
    preparation: &Preparation,
    table: &Table,
    options: &NewOptions,
) -> Result<NewRows, SourceError> {
    let rows = bounded(table.rows(), options);
    let targets = &preparation.targets;
    let is_used = match options.target {
        TargetUse::Required => true,
        TargetUse::Ignored => false,
        TargetUse::IfPresent => {
            targets.iter().all(|target| table.schema().index_of(&target.column).is_ok())
        }
    };
    let mut label_problems = Problems::new();
    let mut labels = Vec::new();
    for target in targets.iter().filter(|_| is_used) {
        labels.extend(gather(&mut label_problems, target.labels(table, rows)));
    }
    let labels = if label_problems.is_empty() { labels } else { Vec::new() };
    let mut problems = Problems::new();
    let rows: Vec<u32> = (0..rows).collect();
    let labels: Vec<&Labels> = labels.iter().collect();
    let made = gather_input(&mut problems, encode(preparation, table, &rows, &labels))?;
    problems.extend("", &label_problems);
    problems.or(())?;
    Ok(made.expect("it was made without a problem"))
}

/// Some rows of a table, ascending, with labels of all its rows where there are any.
pub(crate) fn encode(
    preparation: &Preparation,
    table: &Table,
    rows: &[u32],
    labels: &[&Labels],
) -> Result<NewRows, SourceError> {
    let inputs: Vec<_> = preparation.encoders.iter().map(Encoder::input).collect();
    let batches = in_order(rows, batch_rows(&inputs));
    let mut problems = Problems::new();
    let mut filled = Vec::new();
    for (encoder, input) in preparation.encoders.iter().zip(&inputs) {
        let mut buffers = Buffers::new(&batches, input)?;
        let done = encoder.fill(table, &batches, &mut buffers, &[Part::Train]);
        gather(&mut problems, done);
        filled.push(buffers);
    }
    problems.or(())?;
    Ok(new_rows(preparation, &batches, filled, labels))
}

/// Some rows of the generator's part.
pub(crate) fn encode_shapes(
    preparation: &Preparation,
    shapes: Shapes,
    part: Part,
    rows: &[u32],
    labels: &[&Labels],
) -> Result<NewRows, SourceError> {
    let input = preparation.encoders[0].input();
    let batches = in_order(rows, batch_rows(std::slice::from_ref(&input)));
    let mut buffers = Buffers::new(&batches, &input)?;
    shapes.fill(&batches, &mut buffers, Part::Train, part);
    Ok(new_rows(preparation, &batches, vec![buffers], labels))
}

fn new_from_generator(
    preparation: &Preparation,
    generator: &Generator,
    shapes: Shapes,
    part: Part,
    options: &NewOptions,
) -> Result<NewRows, SourceError> {
    let own = Shapes::preparation();
    if *preparation != own {
        let text = "makes grey images of shapes, which this model was not trained on";
        return Err(Problems::one("generator", text).into());
    }
    let Generator::Shapes { rows, validation_rows } = *generator;
    let (train_rows, validation_rows) = Shapes::row_counts(rows, validation_rows)?;
    let rows = bounded(if part == Part::Train { train_rows } else { validation_rows }, options);
    if rows == 0 {
        return Err(Problems::one("generator", format!("makes no {} rows", part.name())).into());
    }
    let labels = (options.target != TargetUse::Ignored).then(|| Shapes::labels(rows));
    let rows: Vec<u32> = (0..rows).collect();
    let labels: Vec<&Labels> = labels.iter().collect();
    encode_shapes(preparation, shapes, part, &rows, &labels)
}

fn new_rows(
    preparation: &Preparation,
    batches: &[BatchRows],
    buffers: Vec<Buffers>,
    labels: &[&Labels],
) -> NewRows {
    let inputs = preparation.inputs(&buffers);
    let targets = preparation.learned();
    let has_targets = !labels.is_empty();
    let labelled: Vec<_> = labels.iter().map(|&labels| [labels, labels]).collect();
    let columns = if has_targets { targets.as_slice() } else { &[] };
    let all: Vec<_> = batches.iter().collect();
    let made = into_batches(&all, &inputs, buffers, columns, &labelled);
    let rows = batches.iter().map(|batch| batch.rows.len() as u64).sum();
    NewRows { inputs, targets, has_targets, batches: made, rows }
}

fn bounded(rows: u32, options: &NewOptions) -> u32 {
    let bound = options.max_rows.and_then(|bound| u32::try_from(bound).ok());
    bound.map_or(rows, |bound| rows.min(bound))
}

fn in_order(rows: &[u32], batch_rows: usize) -> Vec<BatchRows> {
    let batch = |rows: &[u32]| BatchRows { shard: 0, part: Part::Train, rows: rows.to_vec() };
    rows.chunks(batch_rows).map(batch).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Float64Array, StringArray};

    use std::path::PathBuf;

    use super::*;
    use crate::fixtures::{
        all_columns, column, concat, file_spec, generated_spec, train_of, validation_of, write,
    };
    use crate::{DataSpec, prepare};

    fn people(dir: &Path, name: &str, with_target: bool) -> PathBuf {
        let mut columns = vec![
            column("age", Float64Array::from(vec![Some(1.0), None, Some(4.0), Some(8.0)])),
            column("job", StringArray::from(vec!["a", "b", "a", "c"])),
        ];
        if with_target {
            columns.push(column("y", BooleanArray::from(vec![true, false, true, false])));
        }
        write(dir, name, &columns)
    }

    #[test]
    fn new_rows_are_prepared_to_the_bit_as_training_rows_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = people(dir.path(), "train", true);
        let prepared = prepare(&file_spec(&path, all_columns())).unwrap();
        let mut trained = train_of(&prepared);
        trained.sort_by_key(|(row, ..)| *row);
        let preparation = &prepared.data_set.preparation;
        let origin = NewOrigin::Table(Location::File(path));
        let new = prepare_new(preparation, &origin, &NewOptions::default()).unwrap();
        assert_eq!((new.rows, new.has_targets), (4, true));
        assert_eq!(
            (&new.inputs, &new.targets),
            (&prepared.data_set.inputs, &prepared.data_set.targets)
        );
        assert_eq!(concat(&new.batches), trained);

        let options = NewOptions { max_rows: Some(3), target: TargetUse::Ignored };
        let new = prepare_new(preparation, &origin, &options).unwrap();
        assert_eq!((new.rows, new.has_targets, new.batches[0].num_columns()), (3, false, 2));
    }

    #[test]
    fn a_file_without_its_target_can_be_predicted_but_not_evaluated() {
        let dir = tempfile::tempdir().unwrap();
        let train = people(dir.path(), "train", true);
        let preparation = prepare(&file_spec(&train, all_columns())).unwrap().data_set.preparation;
        let origin = NewOrigin::Table(Location::File(people(dir.path(), "new", false)));
        let new = prepare_new(&preparation, &origin, &NewOptions::default()).unwrap();
        assert_eq!((new.rows, new.has_targets), (4, false));
        let options = NewOptions { max_rows: None, target: TargetUse::Required };
        let error = prepare_new(&preparation, &origin, &options).unwrap_err();
        let text = error.to_string().replace(&format!("{}/", dir.path().display()), "");
        assert_eq!(text, "new, column `y`: there is no such column; there are `age`, `job`");
    }

    #[test]
    fn rows_in_memory_are_prepared_as_those_of_a_file_and_counted_from_their_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = people(dir.path(), "train", true);
        let preparation = prepare(&file_spec(&path, all_columns())).unwrap().data_set.preparation;
        let rows = RecordBatch::try_from_iter([
            ("job", Arc::new(StringArray::from(vec!["c", "a"])) as ArrayRef),
            ("age", Arc::new(Float64Array::from(vec![Some(8.0), None]))),
        ]);
        let rows = rows.unwrap();
        let of = |rows: RecordBatch| {
            let origin = NewOrigin::Batch { name: "rows".into(), rows, first_row: 1_000 };
            prepare_new(&preparation, &origin, &NewOptions::default())
        };
        let whole = NewOrigin::Table(Location::File(people(dir.path(), "new", false)));
        let whole = prepare_new(&preparation, &whole, &NewOptions::default()).unwrap();
        let made = of(rows.clone()).unwrap();
        assert_eq!((made.rows, made.has_targets), (2, false));
        // The fourth row is 8 and "c".
        let last = whole.batches[0].column(1).slice(3, 1);
        assert_eq!(&made.batches[0].column(1).slice(0, 1), &last);

        let error = of(rows.project(&[1]).unwrap()).unwrap_err().to_string();
        assert_eq!(error, "rows, column `job`: there is no such column; there are `age`");
        let age = Arc::new(Float64Array::from(vec![1.0, f64::INFINITY])) as ArrayRef;
        let wild = RecordBatch::try_from_iter([("job", Arc::clone(rows.column(0))), ("age", age)]);
        let error = of(wild.unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("rows, column `age`, row 1001: "), "{error}");
    }

    #[test]
    fn generated_rows_can_be_made_again_or_anew() {
        let prepared = prepare(&DataSpec { shards: 1, ..generated_spec(50, 20) }).unwrap();
        let preparation = &prepared.data_set.preparation;
        let generator = Generator::Shapes { rows: 50, validation_rows: 20 };
        let origin = |seed, part| NewOrigin::Generated { generator, seed, part };
        let made = |seed, part| {
            let options = NewOptions::default();
            concat(&prepare_new(preparation, &origin(seed, part), &options).unwrap().batches)
        };
        let mut wanted = validation_of(&prepared);
        wanted.sort_by_key(|(row, ..)| *row);
        assert_eq!(made(42, Part::Validation), wanted);
        assert_eq!(made(42, Part::Train).len(), 50);
        assert_ne!(made(43, Part::Validation), wanted);

        let dir = tempfile::tempdir().unwrap();
        let path = people(dir.path(), "train", true);
        let other = prepare(&file_spec(&path, all_columns())).unwrap().data_set.preparation;
        let error =
            prepare_new(&other, &origin(42, Part::Train), &NewOptions::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "generator: makes grey images of shapes, which this model was not trained on"
        );
    }

    #[test]
    fn nothing_asked_for_is_nothing_wrong_said() {
        let prepared = prepare(&generated_spec(8, 0)).unwrap();
        let preparation = &prepared.data_set.preparation;
        let generator = Generator::Shapes { rows: 8, validation_rows: 0 };
        let origin = NewOrigin::Generated { generator, seed: 1, part: Part::Validation };
        let error = prepare_new(preparation, &origin, &NewOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), "generator: makes no validation rows");
        let none = NewOptions { max_rows: Some(0), ..NewOptions::default() };
        let error = prepare_new(preparation, &origin, &none).unwrap_err();
        assert_eq!(error.to_string(), "max_rows: is 0; give at least 1");
    }
}
