//! Prepares a data set: from a specification to shards in memory.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrowhop_types::{DataSet, Part, Problems, SourceRecord};
use tempfile::TempDir;

use crate::deal::{BatchRows, Deal};
use crate::digest::Sum;
use crate::encoder::Encoder;
use crate::error::{SourceError, gather, gather_input};
use crate::postgres::PartReport;
use crate::preparation::Preparation;
use crate::progress::Stage;
use crate::shapes::Shapes;
use crate::shards::{Buffers, batch_rows};
use crate::shuffle::Shuffle;
use crate::spec::{
    DataSpec, Generator, Location, NamedInputs, Origin, TargetSpec, columns_used, input_names,
    target_names,
};
use crate::table::Table;
use crate::target::{Labels, TargetEncoder};
use crate::test_rows;
use crate::workspace::Workspace;

/// A data set and its shards.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What it is.
    pub data_set: DataSet,
    /// Its rows, by shard number.
    pub shards: Vec<PreparedShard>,
    /// Where the rows came from.
    pub sources: Vec<SourceRecord>,
    /// The folder with the shards' files, where they were too many for memory; it goes with the last copy
    /// of this.
    pub(crate) files: Option<Arc<TempDir>>,
}

/// The rows of one shard, as `arrowhop_types::data` lays them out, in memory or in mapped files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PreparedShard {
    /// Training rows.
    pub train: Vec<RecordBatch>,
    /// Validation rows.
    pub validation: Vec<RecordBatch>,
}

/// Prepares a data set in memory. The same specification and files give the same bits, on any machine.
///
/// # Errors
/// As [`prepare_within`].
pub fn prepare(spec: &DataSpec) -> Result<Prepared, SourceError> {
    prepare_within(spec, &Workspace::in_memory())
}

/// Prepares a data set, whose rows beyond the workspace's memory go into files. It is the same data set,
/// however little memory there is.
///
/// # Errors
/// [`SourceError::Input`] with everything that is wrong with the specification or the files;
/// [`SourceError::Memory`] or [`SourceError::Spill`] where the rows find no room;
/// [`SourceError::Stopped`] when the workspace's progress was told to stop.
pub fn prepare_within(spec: &DataSpec, workspace: &Workspace) -> Result<Prepared, SourceError> {
    spec.check()?;
    let prepared = match &spec.origin {
        Origin::Tables { train, validation, inputs, targets, .. } => {
            let columns = Columns { inputs, targets };
            prepare_tables(spec, train, validation.as_ref(), &columns, workspace)
        }
        Origin::Generated(generator) => prepare_generated(spec, generator, workspace),
    };
    workspace.progress().check()?;
    prepared
}

/// Which columns of a table are to be used.
struct Columns<'a> {
    inputs: &'a [NamedInputs],
    targets: &'a [TargetSpec],
}

fn prepare_tables(
    spec: &DataSpec,
    train: &Location,
    validation: Option<&Location>,
    columns: &Columns<'_>,
    workspace: &Workspace,
) -> Result<Prepared, SourceError> {
    let progress = workspace.progress();
    progress.begin(Stage::Reading, None, 0);
    let opened = Opened::find(spec, train, validation, columns, workspace)?;
    let Opened { train, validation, test, mut sources } = opened;

    progress.begin(Stage::Looking, None, 0);
    let mut problems = Problems::new();
    let validation_rows = validation.as_ref().map(Table::rows);
    let deal = gather(&mut problems, Deal::new(spec, train.rows(), validation_rows));
    let preparation = columns.resolve(&train, deal.as_ref(), &mut problems);
    problems.or(())?;
    let deal = deal.expect("it was dealt without a problem");

    let batches = deal.batches(batch_rows(&preparation.unfilled()));
    let mut problems = Problems::new();
    let mut labels = Vec::new();
    for target in &preparation.targets {
        let train = gather(&mut problems, target.labels(&train, train.rows()));
        let own = validation.as_ref().map(|own| target.labels(own, own.rows()));
        labels.push((train, own.and_then(|own| gather(&mut problems, own))));
    }
    // Where labels have problems, rows are decoded to find theirs, too, and go no further.
    let none = Labels::Classes(Vec::new());
    let labels: Vec<[&Labels; 2]> = labels
        .iter()
        .map(|(train, own)| {
            let train = train.as_ref().unwrap_or(&none);
            [train, own.as_ref().unwrap_or(train)]
        })
        .collect();
    // What is wrong with them says what test rows would be prepared by.
    let test = if problems.is_empty() {
        let of_train: Vec<&Labels> = labels.iter().map(|[train, _]| *train).collect();
        let of_train = (&train, &deal, of_train.as_slice());
        test_rows::measure(spec, &preparation, test.as_ref(), of_train)?
    } else {
        None
    };
    // Of training rows, and of validation rows that have a source of their own.
    let mut read = [Sum::default(); 2];
    let fill = |batches: &[BatchRows], buffers: &mut [Buffers]| {
        for (encoder, buffers) in preparation.encoders.iter().zip(buffers) {
            let mut train_parts = [Part::Train, Part::Validation].as_slice();
            if let Some(validation) = &validation {
                train_parts = &[Part::Train];
                let done = encoder.fill(validation, batches, buffers, &[Part::Validation]);
                read[1] = read[1].plus(gather(&mut problems, done).unwrap_or_default());
            }
            let done = encoder.fill(&train, batches, buffers, train_parts);
            read[0] = read[0].plus(gather(&mut problems, done).unwrap_or_default());
        }
        problems.or(())
    };
    let (batches, labels) = (&batches, &labels);
    let shuffle = Shuffle { spec, preparation: &preparation, batches, labels, test };
    let (prepared, sharded) = shuffle.prepared(workspace, fill)?;
    compare(read, sharded, validation.is_some(), &mut sources)?;
    Ok(Prepared { sources, ..prepared })
}

/// The tables of a data set.
struct Opened {
    train: Table,
    validation: Option<Table>,
    test: Option<Table>,
    /// What is kept of them, in this order.
    sources: Vec<SourceRecord>,
}

impl Opened {
    /// Opens all of them; what is wrong with any is said at once.
    fn find(
        spec: &DataSpec,
        train: &Location,
        validation: Option<&Location>,
        columns: &Columns<'_>,
        workspace: &Workspace,
    ) -> Result<Self, SourceError> {
        let mut problems = Problems::new();
        let mut sources = Vec::new();
        let mut find = |location: &Location| {
            let used = columns_used(columns.inputs, columns.targets);
            // Before it is read, so that what changes meanwhile makes another version.
            let version = location.version();
            let opened = location.source().open(used.as_deref(), workspace);
            let found = gather_input(&mut problems, opened)?;
            Ok::<_, SourceError>(found.map(|(table, parts)| {
                sources.push(record(location, &table, &parts, version.ok().flatten()));
                table
            }))
        };
        let train = find(train)?;
        let validation = validation.map(&mut find).transpose()?.flatten();
        let test = test_rows::location(&spec.origin).map(&mut find).transpose()?.flatten();
        problems.or(())?;
        let train = train.expect("it was found without a problem");
        Ok(Self { train, validation, test, sources })
    }
}

/// Compares what was read, of the training table and of validation's own if there is one, with what the
/// shards have of training and of validation rows, and notes it with the sources.
fn compare(
    read: [Sum; 2],
    sharded: [Sum; 2],
    is_validation_apart: bool,
    sources: &mut [SourceRecord],
) -> Result<(), SourceError> {
    let [train, validation] = sharded;
    let sharded =
        if is_validation_apart { sharded } else { [train.plus(validation), Sum::default()] };
    if sharded != read {
        let shown = |sums: [Sum; 2]| sums.map(|sum| sum.digest().short()).join(" and ");
        let what = format!("digests {} of {}", shown(sharded), shown(read));
        return Err(SourceError::Lost { what });
    }
    let count = 1 + usize::from(is_validation_apart);
    for (source, sum) in sources.iter_mut().zip(read).take(count) {
        source.digest = Some(sum.digest());
    }
    Ok(())
}

/// What is kept of a source.
fn record(
    location: &Location,
    table: &Table,
    parts: &[PartReport],
    version: Option<String>,
) -> SourceRecord {
    let joined = |texts: Vec<String>| texts.join("; ");
    let mut snapshots: Vec<String> =
        parts.iter().map(|part| format!("snapshot {}", part.snapshot)).collect();
    snapshots.dedup();
    SourceRecord {
        name: location.name(),
        rows: u64::from(table.rows()),
        version: version.unwrap_or_else(|| joined(snapshots)),
        way: joined(parts.iter().map(ToString::to_string).collect()),
        digest: None,
    }
}

impl Columns<'_> {
    /// What is done with each of them, from the training file; columns with problems are left out.
    fn resolve(&self, train: &Table, deal: Option<&Deal>, problems: &mut Problems) -> Preparation {
        let targets = self.targets.iter().map(|target| target.column.as_str());
        let inputs = self.inputs.iter().flat_map(|of| of.inputs.columns());
        let taken: Vec<_> = targets.chain(inputs).collect();
        let mut encoders = Vec::new();
        for (of, name) in self.inputs.iter().zip(input_names(self.inputs)) {
            let encoder = deal.map(|deal| Encoder::resolve(train, &name, of, &taken, deal));
            encoders.extend(encoder.and_then(|encoder| gather(problems, encoder)));
        }
        let mut targets = Vec::new();
        for (target, name) in self.targets.iter().zip(target_names(self.targets)) {
            targets.extend(gather(problems, TargetEncoder::resolve(train, &name, target)));
        }
        Preparation { encoders, targets }
    }
}

fn prepare_generated(
    spec: &DataSpec,
    generator: &Generator,
    workspace: &Workspace,
) -> Result<Prepared, SourceError> {
    let Generator::Shapes { rows, validation_rows } = *generator;
    let shapes = Shapes::new(spec.seed);
    let counts = Shapes::row_counts(rows, validation_rows)?;
    let deal = Deal::new(spec, counts.0, (counts.1 > 0).then_some(counts.1))?;
    let preparation = Shapes::preparation();
    let batches = deal.batches(batch_rows(&preparation.unfilled()));
    let fill = |batches: &[BatchRows], buffers: &mut [Buffers]| {
        shapes.fill(batches, &mut buffers[0], Part::Train, Part::Train);
        // Validation rows that were split off are training rows of the generator.
        let source = if counts.1 > 0 { Part::Validation } else { Part::Train };
        shapes.fill(batches, &mut buffers[0], Part::Validation, source);
        Ok(())
    };
    let labels = Shapes::labels(counts.0.max(counts.1));
    let test = test_rows::measure_shapes(&preparation, shapes, &deal, &labels)?;
    let (batches, labels) = (&batches, &[[&labels, &labels]]);
    let shuffle = Shuffle { spec, preparation: &preparation, batches, labels, test };
    Ok(shuffle.prepared(workspace, fill)?.0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::{BinaryArray, Float64Array, Int32Array};

    use super::*;
    use crate::fixtures::{
        column, file_spec, generated_spec, png, problems, tensor, train_of, validation_of, write,
    };
    use crate::{Inputs, TensorInputs};

    #[test]
    fn rows_that_are_lost_or_changed_on_their_way_are_noticed() {
        let sum = |rows: &[u64]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add_row(*row, &[1, 2]));
            sum
        };
        let source = |name: &str| SourceRecord {
            name: name.into(),
            rows: 3,
            version: String::new(),
            way: String::new(),
            digest: None,
        };
        let (all, none) = (sum(&[0, 1, 2]), Sum::default());
        let mut sources = [source("train")];
        compare([all, none], [sum(&[2, 0]), sum(&[1])], false, &mut sources).unwrap();
        assert_eq!(sources[0].digest, Some(all.digest()));
        for sharded in [sum(&[2, 0]), sum(&[2, 0, 0]), sum(&[0, 1, 3])] {
            let error = compare([all, none], [sharded, none], false, &mut sources).unwrap_err();
            assert!(matches!(error, SourceError::Lost { .. }), "{error}");
        }
        let mut sources = [source("train"), source("validation"), source("test")];
        compare([all, sum(&[5])], [all, sum(&[5])], true, &mut sources).unwrap();
        assert_eq!(sources.map(|source| source.digest.is_some()), [true, true, false]);
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_and_another_the_same_rows_in_another_order() {
        let dir = tempfile::tempdir().unwrap();
        let x = column("x", Float64Array::from_iter_values((0..300).map(f64::from)));
        let y = column("y", Int32Array::from_iter_values((0..300).map(|row| row % 3)));
        let path = write(dir.path(), "t", &[x, y]);
        let spec = DataSpec { shards: 7, ..file_spec(&path, tensor()) };
        let (one, again) = (prepare(&spec).unwrap(), prepare(&spec).unwrap());
        assert_eq!(one.data_set, again.data_set);
        assert_eq!(one.shards, again.shards);
        let other = prepare(&DataSpec { seed: 43, ..spec.clone() }).unwrap();
        assert_eq!(other.data_set.rows_digest, one.data_set.rows_digest);
        assert_ne!(other.data_set.id, one.data_set.id);
        let sizes: Vec<u64> = one.data_set.shards.iter().map(|shard| shard.train_rows).collect();
        assert_eq!(sizes, [43, 43, 43, 43, 43, 43, 42]);
        let mut rows: Vec<u64> = train_of(&one).into_iter().map(|(row, ..)| row).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..300).collect::<Vec<_>>());
        for (row, x, y) in train_of(&one) {
            let row = f32::from(u16::try_from(row).unwrap());
            assert_eq!((x[0], y[0]), (row, row % 3.0));
        }
    }

    #[test]
    fn a_split_keeps_row_numbers_and_labels() {
        let dir = tempfile::tempdir().unwrap();
        let x = column("x", Float64Array::from_iter_values((0..50).map(f64::from)));
        let y = column("y", Int32Array::from_iter_values((0..50).map(|row| row % 5)));
        let path = write(dir.path(), "t", &[x, y]);
        let spec = file_spec(&path, tensor());
        let prepared =
            prepare(&DataSpec { validation_fraction: Some(0.2), shards: 3, ..spec }).unwrap();
        let validation = validation_of(&prepared);
        assert_eq!((validation.len(), train_of(&prepared).len()), (10, 40));
        for (row, x, y) in validation.into_iter().chain(train_of(&prepared)) {
            let row = f32::from(u16::try_from(row).unwrap());
            assert_eq!((x[0], y[0]), (row, row % 5.0));
        }
    }

    #[test]
    fn rows_beyond_the_bound_are_not_decoded() {
        let dir = tempfile::tempdir().unwrap();
        let good = png(&[7; 4], [2, 2, 1]);
        let spec = |path: &Path| DataSpec {
            max_rows: Some(5),
            ..file_spec(
                path,
                Inputs::Tensor(TensorInputs {
                    shape: Some(vec![2, 2, 1]),
                    ..TensorInputs::of("x")
                }),
            )
        };
        let y = || column("y", Int32Array::from_iter_values(0..40));
        let images = BinaryArray::from(vec![good.as_slice(); 40]);
        let path = write(dir.path(), "good", &[column("x", images), y()]);
        let taken: Vec<u64> =
            train_of(&prepare(&spec(&path)).unwrap()).into_iter().map(|(row, ..)| row).collect();
        assert_eq!(taken.len(), 5);
        let only_taken =
            (0..40).map(|row| if taken.contains(&row) { &good[..] } else { b"broken" });
        let images = BinaryArray::from_iter_values(only_taken);
        let path = write(dir.path(), "broken", &[column("x", images), y()]);
        let prepared = prepare(&spec(&path)).unwrap();
        assert_eq!(train_of(&prepared).len(), 5);
        assert_eq!(
            prepared.data_set.targets[0].target.width(),
            40,
            "classes are those of the whole file"
        );
        assert!(prepare(&DataSpec { max_rows: None, ..spec(&path) }).is_err());
    }

    #[test]
    fn problems_of_all_columns_and_files_are_found_in_one_pass() {
        let dir = tempfile::tempdir().unwrap();
        let x = |value| column("x", Float64Array::from(vec![Some(1.0), value]));
        let y = |value| column("y", Int32Array::from(vec![Some(1), value]));
        let train = write(dir.path(), "train", &[x(None), y(None)]);
        let other = write(dir.path(), "other", &[x(Some(f64::NAN)), y(Some(2))]);
        let spec = crate::fixtures::with_validation(file_spec(&train, tensor()), &other);
        assert_eq!(
            problems(dir.path(), &DataSpec { seed: 1, ..spec.clone() }),
            "train, column `y`, row 1: is null; fill it in or leave the row out\n\
             other, column `y`, row 1: is `2`, which is no class of the training file\n\
             other, column `x`, row 1: is not finite: element 0 is NaN as f32\n\
             train, column `x`, row 1: is null or holds a null; fill it in or leave the row out"
        );
        assert_eq!(
            problems(dir.path(), &DataSpec { shards: 3, ..spec }),
            "shards: is 3, but there are only 2 training rows; every shard needs at least one"
        );
    }

    #[test]
    fn generated_rows_may_be_split_off_too() {
        let spec = DataSpec { validation_fraction: Some(0.25), ..generated_spec(80, 0) };
        let split = prepare(&spec).unwrap();
        let whole = prepare(&generated_spec(80, 0)).unwrap();
        let mut rows = train_of(&split);
        rows.extend(validation_of(&split));
        let mut wanted = train_of(&whole);
        rows.sort_by_key(|(row, ..)| *row);
        wanted.sort_by_key(|(row, ..)| *row);
        assert_eq!(rows, wanted);
        assert_eq!(split.data_set.rows(Part::Validation), 20);
    }
}
