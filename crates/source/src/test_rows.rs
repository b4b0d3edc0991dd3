//! Test rows: a table of their own, or rows of the training source that were set aside. They lie in no
//! shard; of them a data set knows how many there are, and their digest. They are prepared when the data
//! set is, to find what is wrong with them, and again when a model is tested.

use arrow::array::RecordBatch;
use arrowhop_types::{DataSet, Part, Problems, TestRows};

use crate::deal::{Deal, bound, drawn_for_test};
use crate::digest;
use crate::encoder::Encoder;
use crate::error::SourceError;
use crate::preparation::Preparation;
use crate::prepare_new::{NewRows, encode, encode_shapes};
use crate::shapes::Shapes;
use crate::spec::{DataSpec, Generator, Location, Origin};
use crate::table::Table;
use crate::target::{Labels, TargetEncoder};
use crate::workspace::Workspace;

/// Rows are prepared in pieces of about this many bytes, where only their digest is wanted.
const PIECE_BYTES: usize = 64 << 20;

/// Prepares the test rows of a data set, to evaluate a model on them.
///
/// # Errors
/// As [`crate::prepare_new`]; [`SourceError::Input`] also where the data set has none, or where they
/// are no longer those that it was prepared with.
pub fn prepare_test(spec: &DataSpec, data_set: &DataSet) -> Result<NewRows, SourceError> {
    let wrong = |text: String| SourceError::from(Problems::one("test rows", text));
    let Some(recorded) = &data_set.test else {
        return Err(wrong(
            "there are none: give test, test_table, test_query or test_fraction in the experiment"
                .into(),
        ));
    };
    let preparation = Preparation::from_text(&data_set.preparation)?;
    let rows = match &spec.origin {
        Origin::Tables { test: Some(location), .. } => {
            let (table, _) = location.source().open(None, &Workspace::in_memory())?;
            of_table(&preparation, &table, &own_rows(spec, &table))
        }
        Origin::Tables { train, .. } => {
            let (table, _) = train.source().open(None, &Workspace::in_memory())?;
            let deal = Deal::new(spec, table.rows(), None)?;
            of_table(&preparation, &table, &deal.test)
        }
        Origin::Generated(Generator::Shapes { rows, validation_rows }) => {
            let counts = Shapes::row_counts(*rows, *validation_rows)?;
            let deal = Deal::new(spec, counts.0, None)?;
            let labels = Shapes::labels(counts.0);
            let shapes = Shapes::new(spec.seed);
            encode_shapes(&preparation, shapes, Part::Train, &deal.test, &[&labels])
        }
    }?;
    let found = TestRows { rows: rows.rows, digest: digest::test_digest(&rows.batches) };
    if found != *recorded {
        return Err(wrong(format!(
            "there were {} rows with digest {}, and now there are {} with {}; put the old data back",
            recorded.rows,
            recorded.digest.short(),
            found.rows,
            found.digest.short()
        )));
    }
    Ok(rows)
}

/// What a data set is to know of the test rows: of a table of their own, or else those of the training
/// table, by the labels of all its rows.
pub(crate) fn measure(
    spec: &DataSpec,
    preparation: &Preparation,
    test: Option<&Table>,
    (train, deal, labels): (&Table, &Deal, &[&Labels]),
) -> Result<Option<TestRows>, SourceError> {
    let Some(table) = test else {
        let encode = |rows: &[u32]| encode(preparation, train, rows, labels);
        return in_pieces(preparation, &deal.test, encode);
    };
    let labels = all_labels(preparation, table)?;
    let labels: Vec<&Labels> = labels.iter().collect();
    let rows = own_rows(spec, table);
    in_pieces(preparation, &rows, |rows| encode(preparation, table, rows, &labels))
}

/// The same of generated rows.
pub(crate) fn measure_shapes(
    preparation: &Preparation,
    shapes: Shapes,
    deal: &Deal,
    labels: &Labels,
) -> Result<Option<TestRows>, SourceError> {
    in_pieces(preparation, &deal.test, |rows| {
        encode_shapes(preparation, shapes, Part::Train, rows, &[labels])
    })
}

/// Where test rows are, if they have a table of their own.
pub(crate) fn location(origin: &Origin) -> Option<&Location> {
    match origin {
        Origin::Tables { test, .. } => test.as_ref(),
        Origin::Generated(_) => None,
    }
}

/// The rows that are taken of a table of test rows.
fn own_rows(spec: &DataSpec, table: &Table) -> Vec<u32> {
    let all: Vec<u32> = (0..table.rows()).collect();
    drawn_for_test(&all, spec.seed, bound(spec))
}

fn all_labels(preparation: &Preparation, table: &Table) -> Result<Vec<Labels>, Problems> {
    let mut problems = Problems::new();
    let mut labels = Vec::new();
    for target in &preparation.targets {
        match TargetEncoder::labels(target, table, table.rows()) {
            Ok(found) => labels.push(found),
            Err(found) => problems.extend("", &found),
        }
    }
    problems.or(labels)
}

fn of_table(
    preparation: &Preparation,
    table: &Table,
    rows: &[u32],
) -> Result<NewRows, SourceError> {
    let labels = all_labels(preparation, table)?;
    encode(preparation, table, rows, &labels.iter().collect::<Vec<_>>())
}

fn in_pieces(
    preparation: &Preparation,
    rows: &[u32],
    encode: impl Fn(&[u32]) -> Result<NewRows, SourceError>,
) -> Result<Option<TestRows>, SourceError> {
    let bytes: usize = preparation.encoders.iter().map(|e: &Encoder| e.input().bytes()).sum();
    let mut problems = Problems::new();
    let mut digests = Vec::new();
    for piece in rows.chunks((PIECE_BYTES / bytes.max(1)).max(1)) {
        match encode(piece) {
            Ok(NewRows { batches, .. }) => digests.push(digest_of(&batches)),
            Err(SourceError::Input(found)) => problems.extend("", &found),
            Err(other) => return Err(other),
        }
    }
    problems.or(())?;
    let digest = digest::sum(digests);
    Ok((!rows.is_empty()).then_some(TestRows { rows: rows.len() as u64, digest }))
}

fn digest_of(batches: &[RecordBatch]) -> [u8; 32] {
    digest::test_digest(batches).0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::{Float64Array, StringArray};

    use super::*;
    use crate::fixtures::{
        all_columns, column, concat, file_spec, generated_spec, problems, train_of, validation_of,
        write,
    };
    use crate::prepare;

    /// Rows by number, the last one far off.
    fn file(dir: &Path, name: &str, rows: usize, outlier: f64) -> std::path::PathBuf {
        let mut x: Vec<f64> = (0..rows).map(|i| i as f64).collect();
        x[rows - 1] = outlier;
        let y: StringArray = (0..rows).map(|i| Some(["a", "b"][i % 2])).collect();
        write(dir, name, &[column("x", Float64Array::from(x)), column("y", y)])
    }

    fn numbers(rows: &[crate::fixtures::Row]) -> Vec<u64> {
        let mut numbers: Vec<u64> = rows.iter().map(|(row, ..)| *row).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn rows_set_aside_are_seen_by_nothing_but_the_test() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "t", 40, 39.0);
        let plain = DataSpec { validation_fraction: Some(0.25), ..file_spec(&path, all_columns()) };
        let spec = DataSpec { test_fraction: Some(0.2), ..plain.clone() };
        let (without, with) = (prepare(&plain).unwrap(), prepare(&spec).unwrap());
        let test = prepare_test(&spec, &with.data_set).unwrap();
        assert_eq!(with.data_set.test.as_ref().unwrap().rows, 8);
        let rows = concat(&test.batches);
        assert!(test.has_targets && rows.is_sorted_by_key(|(row, ..)| *row));
        let parts = [train_of(&with), validation_of(&with), rows.clone()];
        let mut all: Vec<u64> = parts.iter().flat_map(|part| numbers(part)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>());
        assert_eq!(numbers(&validation_of(&with)), numbers(&validation_of(&without)));
        assert_ne!(with.data_set.id, without.data_set.id);

        // What is in a test row changes the test's digest, and with it the name, but no statistic.
        let taken = rows[0].0;
        let mut x: Vec<f64> = (0..40).map(f64::from).collect();
        x[usize::try_from(taken).unwrap()] = 1e9;
        let y: StringArray = (0..40).map(|i| Some(["a", "b"][i % 2])).collect();
        write(dir.path(), "t", &[column("x", Float64Array::from(x)), column("y", y)]);
        let changed = prepare(&spec).unwrap();
        assert_eq!(changed.shards, with.shards);
        assert_eq!(changed.data_set.preparation, with.data_set.preparation);
        assert_eq!(changed.data_set.rows_digest, with.data_set.rows_digest);
        assert_ne!(changed.data_set.test, with.data_set.test);
        assert_ne!(changed.data_set.id, with.data_set.id);
        let error = prepare_test(&spec, &with.data_set).unwrap_err().to_string();
        assert!(error.starts_with("test rows: there were 8 rows with digest "), "{error}");
        let error = prepare_test(&plain, &without.data_set).unwrap_err().to_string();
        assert!(error.starts_with("test rows: there are none: give test, "), "{error}");
    }

    #[test]
    fn a_table_of_test_rows_is_checked_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let train = file(dir.path(), "train", 20, 19.0);
        let own = |path: &Path, max_rows| {
            let mut spec = DataSpec { max_rows, ..file_spec(&train, all_columns()) };
            let Origin::Tables { test, .. } = &mut spec.origin else { panic!("no files") };
            *test = Some(Location::File(path.to_owned()));
            spec
        };
        let spec = own(&file(dir.path(), "test", 12, 1e6), None);
        let prepared = prepare(&spec).unwrap();
        let rows = concat(&prepare_test(&spec, &prepared.data_set).unwrap().batches);
        assert_eq!((rows.len(), train_of(&prepared).len()), (12, 20));
        let bounded = own(&dir.path().join("test"), Some(5));
        let prepared = prepare(&bounded).unwrap();
        let few = concat(&prepare_test(&bounded, &prepared.data_set).unwrap().batches);
        assert!(few.len() == 5 && few.iter().all(|row| rows.contains(row)));

        let x = column("x", Float64Array::from(vec![1.0, f64::NAN]));
        let bad = write(dir.path(), "bad", &[x, column("y", StringArray::from(vec!["c", "a"]))]);
        assert_eq!(
            problems(dir.path(), &own(&bad, None)),
            "bad, column `y`, row 0: is `c`, which is no class of the training file"
        );
        let both = DataSpec { test_fraction: Some(0.1), ..spec };
        assert_eq!(
            problems(dir.path(), &both),
            "test_fraction: is given, but there is test data already; give one of the two"
        );
    }

    #[test]
    fn generated_rows_may_be_set_aside_too() {
        let spec = DataSpec { test_fraction: Some(0.25), ..generated_spec(80, 12) };
        let prepared = prepare(&spec).unwrap();
        let test = concat(&prepare_test(&spec, &prepared.data_set).unwrap().batches);
        let whole = prepare(&generated_spec(80, 12)).unwrap();
        assert_eq!((test.len(), train_of(&prepared).len()), (20, 60));
        assert_eq!(validation_of(&prepared), validation_of(&whole));
        assert!(test.iter().all(|row| train_of(&whole).contains(row)));
    }
}
