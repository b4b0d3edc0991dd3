//! What is asked for: which data, which columns, how many shards. Plain values; checked here as
//! far as they can be without opening a file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use arrowhop_types::{Problems, ROW};

use crate::filter::Filter;
pub use crate::inputs::{Inputs, Pictures, Resampling, Scale, Side, TableInputs, TensorInputs};
use crate::postgres::{Request, Server};

/// Classes are at most this many: 2¹⁶.
pub(crate) const CLASSES_MAX: usize = 1 << 16;
/// Elements of one example are at most this many: 2²⁴.
pub(crate) const ELEMENTS_MAX: usize = 1 << 24;
/// Inputs are at most this many, and targets too: what MADlib's five leave room for, within the 16
/// columns of a shard.
const COLUMNS_MAX: usize = 7;
/// Shards are numbered in 16 bits of a random stream's id.
const SHARDS_MAX: u32 = (1 << 16) - 1;

/// A data set to prepare.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSpec {
    /// For people.
    pub name: String,
    /// Where rows come from.
    pub origin: Origin,
    /// Into how many shards the rows are dealt; every shard gets at least one training row.
    pub shards: u32,
    /// Root of the shuffle, of the split and of generated rows.
    pub seed: u64,
    /// Takes at most this many training rows, and as many validation rows, drawn at random.
    pub max_rows: Option<u64>,
    /// Where there is no validation data of its own: this share of the rows, drawn at random.
    pub validation_fraction: Option<f64>,
    /// Where there is no test data of its own: this share of the training source's rows, drawn at
    /// random of those that are not for validation. Nothing is learned of test rows, statistics
    /// included, but which classes there are.
    pub test_fraction: Option<f64>,
}

/// Where one table is.
#[derive(Debug, Clone, PartialEq)]
pub enum Location {
    /// A file on this machine (Parquet; Arrow IPC, as file or stream; CSV), or a folder with a folder
    /// of images for each class.
    File(PathBuf),
    /// A file of the same kinds, but no folder, in an object store: `s3://bucket/key`, `gs://…`, `az://…`,
    /// `https://…`.
    Object(String),
    /// A table that MADlib packed, with its summary; see [`Location::packed`].
    Packed {
        /// Buffers of rows.
        table: Box<Location>,
        /// What they are.
        summary: Box<Location>,
    },
    /// A table that was uploaded to a supervisor: `grpc://head:7400/NAME`. Whoever prepares data fetches
    /// it first, and puts the file in its place.
    Upload(String),
    /// Rows of a PostgreSQL database. Which columns are read follows from what is done with them.
    Postgres {
        /// The database.
        server: Server,
        /// The rows.
        request: Box<Request>,
    },
    /// Of another location the rows that pass a condition, in its order and numbered anew: there are
    /// no others.
    Filtered {
        /// Which other.
        of: Box<Location>,
        /// The condition.
        filter: Filter,
    },
}

impl Location {
    /// Only the rows that pass, if there is a condition.
    #[must_use]
    pub fn filtered(self, filter: Option<Filter>) -> Self {
        match filter {
            Some(filter) => Self::Filtered { of: Box::new(self), filter },
            None => self,
        }
    }

    /// How it is read, if it is of PostgreSQL.
    pub fn request_mut(&mut self) -> Option<&mut Request> {
        match self {
            Self::Postgres { request, .. } => Some(request),
            Self::Filtered { of, .. } | Self::Packed { table: of, .. } => of.request_mut(),
            Self::File(_) | Self::Object(_) | Self::Upload(_) => None,
        }
    }

    /// The upload that it is, or of which it is a part; whoever prepares data puts a file in its place.
    pub fn upload_mut(&mut self) -> Option<&mut Self> {
        match self {
            Self::Upload(_) => Some(self),
            Self::Filtered { of, .. } => of.upload_mut(),
            Self::Packed { .. } | Self::Postgres { .. } | Self::File(_) | Self::Object(_) => None,
        }
    }

    /// A URL of an upload or an object, or else a path.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if text.starts_with("grpc") && text.contains("://") {
            Self::Upload(text.to_owned())
        } else if text.contains("://") {
            Self::Object(text.to_owned())
        } else {
            Self::File(text.into())
        }
    }
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Tables.
    Tables {
        /// Training rows.
        train: Location,
        /// Validation rows.
        validation: Option<Location>,
        /// Test rows.
        test: Option<Location>,
        /// Which columns become inputs; at least one entry.
        inputs: Vec<NamedInputs>,
        /// Which columns are learned; at least one.
        targets: Vec<TargetSpec>,
    },
    /// Rows made up by this program.
    Generated(Generator),
}

/// A procedural data set. Its rows follow from the seed alone, on any machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generator {
    /// Grey images of 16×16 pixels, each showing one of six shapes, as column `image` and
    /// column `label`; divided by 255.
    Shapes {
        /// Training rows.
        rows: u64,
        /// Validation rows; may be zero.
        validation_rows: u64,
    },
}

/// Which columns become one input.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedInputs {
    /// What the shards' column is called; else `x` for the only input, and the column's own name
    /// where there are several.
    pub name: Option<String>,
    /// The columns.
    pub inputs: Inputs,
}

/// Which column is learned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetSpec {
    /// What the shards' column is called; else `y` for the only target, and the column's own name
    /// where there are several.
    pub name: Option<String>,
    /// The column.
    pub column: String,
    /// What it holds.
    pub kind: TargetKind,
    /// Outputs of a network for its classes, at least as many as these: the rest is padding.
    pub num_classes: Option<u32>,
    /// Missing values are a class, the first one, where the training table has any.
    pub null_class: bool,
}

/// What a target column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetKind {
    /// Strings, booleans and integers are classes; floats and lists of numbers are values.
    #[default]
    Auto,
    /// Classes, floats as well.
    Classes,
    /// Numbers to be predicted.
    Values,
}

impl DataSpec {
    /// Checks all that needs no file.
    pub(crate) fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::new();
        if self.shards == 0 || self.shards > SHARDS_MAX {
            let text = format!("is {}; give 1 to {SHARDS_MAX}", self.shards);
            problems.push("shards", text);
        }
        if self.max_rows == Some(0) {
            problems.push("max_rows", "is 0; give at least 1");
        }
        let parts = [
            ("validation", self.validation_fraction, self.origin.has_validation()),
            ("test", self.test_fraction, self.origin.has_test()),
        ];
        for (part, fraction, has_own) in parts {
            let Some(fraction) = fraction else { continue };
            let place = format!("{part}_fraction");
            if !(fraction > 0.0 && fraction < 1.0) {
                problems.push(&place, format!("is {fraction}; give a number between 0 and 1"));
            }
            if has_own {
                let text =
                    format!("is given, but there is {part} data already; give one of the two");
                problems.push(&place, text);
            }
        }
        if let Origin::Tables { inputs, targets, .. } = &self.origin {
            check_columns(inputs, targets, &mut problems);
        }
        problems.or(())
    }
}

impl Origin {
    fn has_validation(&self) -> bool {
        match self {
            Self::Tables { validation, .. } => validation.is_some(),
            Self::Generated(Generator::Shapes { validation_rows, .. }) => *validation_rows > 0,
        }
    }

    fn has_test(&self) -> bool {
        matches!(self, Self::Tables { test: Some(_), .. })
    }
}

/// The columns that these inputs and targets are of; nothing where an input is of all that are left.
pub(crate) fn columns_used(inputs: &[NamedInputs], targets: &[TargetSpec]) -> Option<Vec<String>> {
    let has_rest = inputs.iter().any(|of| match &of.inputs {
        Inputs::Table(table) => table.columns.is_none(),
        _ => false,
    });
    if has_rest {
        return None;
    }
    let inputs = inputs.iter().flat_map(|of| of.inputs.columns());
    let all = inputs.chain(targets.iter().map(|target| target.column.as_str()));
    let mut used: Vec<String> = Vec::new();
    for column in all {
        if !used.iter().any(|known| known == column) {
            used.push(column.to_owned());
        }
    }
    Some(used)
}

/// What the shards' columns of these inputs are called.
pub(crate) fn input_names(inputs: &[NamedInputs]) -> Vec<String> {
    let is_only = inputs.len() == 1;
    let name = |of: &NamedInputs| match (&of.name, of.inputs.column()) {
        (Some(name), _) => name.clone(),
        (None, _) if is_only => "x".to_owned(),
        (None, column) => column.unwrap_or_default().to_owned(),
    };
    inputs.iter().map(name).collect()
}

/// What the shards' columns of these targets are called.
pub(crate) fn target_names(targets: &[TargetSpec]) -> Vec<String> {
    let is_only = targets.len() == 1;
    let name = |target: &TargetSpec| match &target.name {
        Some(name) => name.clone(),
        None if is_only => "y".to_owned(),
        None => target.column.clone(),
    };
    targets.iter().map(name).collect()
}

/// Inputs and targets one by one, and all together.
fn check_columns(inputs: &[NamedInputs], targets: &[TargetSpec], problems: &mut Problems) {
    for (what, count) in [("input", inputs.len()), ("target", targets.len())] {
        if !(1..=COLUMNS_MAX).contains(&count) {
            problems.push(what, format!("there are {count}; give 1 to {COLUMNS_MAX}"));
        }
    }
    for of in inputs {
        of.inputs.check(targets, problems);
    }
    for count in targets.iter().filter_map(|target| target.num_classes) {
        if count == 0 || count as usize > CLASSES_MAX {
            problems.push("num_classes", format!("is {count}; give 1 to {CLASSES_MAX}"));
        }
    }
    let mut taken = BTreeSet::from([ROW.to_owned()]);
    for name in input_names(inputs).into_iter().chain(target_names(targets)) {
        if name.is_empty() {
            problems.push("input", "a table among several inputs needs a name; give it one");
        } else if !taken.insert(name.clone()) {
            let text = format!("`{name}` names two columns of the shards; give one another name");
            problems.push("name", text);
        }
    }
}

/// Elements of a shape that is not empty, has no zero and is not too large.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n))?;
    (!shape.is_empty() && product > 0 && product <= ELEMENTS_MAX).then_some(product)
}

/// What is wrong with a shape for which [`elements`] is nothing.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    format!("is {shape:?}; give at least one length, none zero, at most {ELEMENTS_MAX} elements")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(column: &str) -> TargetSpec {
        TargetSpec { column: column.into(), ..TargetSpec::default() }
    }

    fn found(inputs: Vec<(Option<&str>, Inputs)>, targets: &[TargetSpec]) -> String {
        let inputs: Vec<_> = inputs
            .into_iter()
            .map(|(name, inputs)| NamedInputs { name: name.map(str::to_owned), inputs })
            .collect();
        let mut problems = Problems::new();
        check_columns(&inputs, targets, &mut problems);
        problems.to_string()
    }

    #[test]
    fn everything_wrong_in_a_specification_is_said_at_once() {
        let spec = DataSpec {
            name: "x".into(),
            origin: Origin::Tables {
                train: Location::File("train.parquet".into()),
                validation: Some(Location::File("validation.parquet".into())),
                test: None,
                inputs: vec![NamedInputs {
                    name: None,
                    inputs: Inputs::Tensor(TensorInputs {
                        shape: Some(vec![3, 0]),
                        normalize: 0.0,
                        pictures: Pictures {
                            resize: Some(([0, 3], Resampling::Bilinear)),
                            channels: Some(4),
                        },
                        ..TensorInputs::of("label")
                    }),
                }],
                targets: vec![TargetSpec { num_classes: Some(0), ..target("label") }],
            },
            shards: 0,
            seed: 1,
            max_rows: Some(0),
            validation_fraction: Some(1.0),
            test_fraction: Some(0.0),
        };
        assert_eq!(
            spec.check().unwrap_err().to_string(),
            "shards: is 0; give 1 to 65535\n\
             max_rows: is 0; give at least 1\n\
             validation_fraction: is 1; give a number between 0 and 1\n\
             validation_fraction: is given, but there is validation data already; give one of the two\n\
             test_fraction: is 0; give a number between 0 and 1\n\
             normalize: is 0; give a positive number\n\
             shape: is [3, 0]; give at least one length, none zero, at most 16777216 elements\n\
             resize: is [0, 3]; give a height and a width of 1 to 16384, with at most 16777216 \
             pixels\n\
             channels: is 4; give 1, for grey, or 3, for colour\n\
             input column: `label` is the target, too; name another column\n\
             num_classes: is 0; give 1 to 65536"
        );
    }

    #[test]
    fn columns_of_a_table_are_distinct_and_not_the_target() {
        let inputs = Inputs::Table(TableInputs {
            columns: Some(vec!["a".into(), "y".into(), "a".into()]),
            categories: vec!["b".into()],
            bounds: vec![1.0, 1.0],
            hash_buckets: Some(0),
            ..TableInputs::default()
        });
        assert_eq!(
            found(vec![(None, inputs)], &[target("y")]),
            "columns: `y` is the target; leave it out\n\
             columns: `a` is there twice\n\
             categories: `b` is none of the columns; add it to them\n\
             bounds: must be finite numbers in ascending order\n\
             hash_buckets: is 0; give 1 to 16777216"
        );
    }

    #[test]
    fn several_inputs_have_names_of_their_own() {
        let one_hot = || Inputs::OneHot { column: "a".into(), width: 3 };
        let table = || Inputs::Table(TableInputs::default());
        let targets = [target("y"), target("z")];
        assert_eq!(found(vec![(None, one_hot()), (Some("rest"), table())], &targets), "");
        assert_eq!(
            found(vec![(None, one_hot()), (Some("y"), one_hot()), (None, table())], &targets),
            "input: a table among several inputs needs a name; give it one\n\
             name: `y` names two columns of the shards; give one another name"
        );
        assert_eq!(found(vec![(Some("row"), one_hot())], &targets[..1]).lines().count(), 1);
        assert_eq!(
            found(Vec::new(), &[]),
            "input: there are 0; give 1 to 7\ntarget: there are 0; give 1 to 7"
        );
    }
}
