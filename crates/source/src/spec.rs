//! What is asked for: which data, which columns, how many shards. Plain values; checked here as
//! far as they can be without opening a file.

use std::path::PathBuf;

use arrowhop_types::Problems;

/// Elements of one example are at most this many: 2²⁴.
pub(crate) const ELEMENTS_MAX: usize = 1 << 24;
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
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Parquet files on this machine.
    Parquet {
        /// Training rows.
        train: PathBuf,
        /// Validation rows.
        validation: Option<PathBuf>,
        /// Which columns become the input.
        inputs: Inputs,
        /// Which column is learned.
        target: TargetSpec,
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

/// Which columns become the input, and how.
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// One column holds the whole input: raw bytes, JPEG or PNG images (also as Hugging Face's
    /// `{bytes, path}`), or lists of numbers, nested or not. Bytes stay bytes, other numbers become
    /// f32.
    Tensor {
        /// The column.
        column: String,
        /// The shape of one example; else the field's metadata, the first image or the lists say.
        shape: Option<Vec<usize>>,
        /// Elements are divided by this when a batch is gathered; 1 for none.
        normalize: f32,
    },
    /// One scalar column per feature. Numbers are kept (a missing one becomes the training mean);
    /// strings and booleans become one-hot, with missing as a category of its own and a category
    /// that training did not see as all zeros.
    Table {
        /// The columns in order; else all but the target, `id` and `__index_level_0__`.
        columns: Option<Vec<String>>,
        /// Numbers have the training mean subtracted and are divided by the training standard
        /// deviation (of the population).
        standardise: bool,
    },
}

/// Which column is learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpec {
    /// The column.
    pub column: String,
    /// What it holds.
    pub kind: TargetKind,
}

/// What a target column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetKind {
    /// Strings, booleans and integers are classes; floats and lists of numbers are values.
    #[default]
    Auto,
    /// Classes, whatever the type allows.
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
        if let Some(fraction) = self.validation_fraction {
            if !(fraction > 0.0 && fraction < 1.0) {
                let text = format!("is {fraction}; give a number between 0 and 1");
                problems.push("validation_fraction", text);
            }
            if self.origin.has_validation() {
                let text = "is given, but there is validation data already; give one of the two";
                problems.push("validation_fraction", text);
            }
        }
        if let Origin::Parquet { inputs, target, .. } = &self.origin {
            inputs.check(target, &mut problems);
        }
        problems.or(())
    }
}

impl Origin {
    fn has_validation(&self) -> bool {
        match self {
            Self::Parquet { validation, .. } => validation.is_some(),
            Self::Generated(Generator::Shapes { validation_rows, .. }) => *validation_rows > 0,
        }
    }
}

impl Inputs {
    fn check(&self, target: &TargetSpec, problems: &mut Problems) {
        match self {
            Self::Tensor { column, shape, normalize } => {
                if !(normalize.is_finite() && *normalize > 0.0) {
                    problems.push("normalize", format!("is {normalize}; give a positive number"));
                }
                if let Some(shape) = shape
                    && elements(shape).is_none()
                {
                    problems.push("shape", shape_text(shape));
                }
                if *column == target.column {
                    let text = format!("`{column}` is the target, too; name another column");
                    problems.push("input column", text);
                }
            }
            Self::Table { columns: Some(columns), .. } => {
                if columns.is_empty() {
                    problems.push("columns", "is empty; name columns, or leave it out for all");
                }
                for (i, column) in columns.iter().enumerate() {
                    if *column == target.column {
                        let text = format!("`{column}` is the target; leave it out");
                        problems.push("columns", text);
                    }
                    if columns[..i].contains(column) {
                        problems.push("columns", format!("`{column}` is there twice"));
                    }
                }
            }
            Self::Table { columns: None, .. } => {}
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

    #[test]
    fn everything_wrong_in_a_specification_is_said_at_once() {
        let spec = DataSpec {
            name: "x".into(),
            origin: Origin::Parquet {
                train: "train.parquet".into(),
                validation: Some("validation.parquet".into()),
                inputs: Inputs::Tensor {
                    column: "label".into(),
                    shape: Some(vec![3, 0]),
                    normalize: 0.0,
                },
                target: TargetSpec { column: "label".into(), kind: TargetKind::Auto },
            },
            shards: 0,
            seed: 1,
            max_rows: Some(0),
            validation_fraction: Some(1.0),
        };
        assert_eq!(
            spec.check().unwrap_err().to_string(),
            "shards: is 0; give 1 to 65535\n\
             max_rows: is 0; give at least 1\n\
             validation_fraction: is 1; give a number between 0 and 1\n\
             validation_fraction: is given, but there is validation data already; give one of the two\n\
             normalize: is 0; give a positive number\n\
             shape: is [3, 0]; give at least one length, none zero, at most 16777216 elements\n\
             input column: `label` is the target, too; name another column"
        );
    }

    #[test]
    fn named_columns_are_distinct_and_not_the_target() {
        let target = TargetSpec { column: "y".into(), kind: TargetKind::Auto };
        let inputs = Inputs::Table {
            columns: Some(vec!["a".into(), "y".into(), "a".into()]),
            standardise: true,
        };
        let mut problems = Problems::new();
        inputs.check(&target, &mut problems);
        assert_eq!(
            problems.to_string(),
            "columns: `y` is the target; leave it out\ncolumns: `a` is there twice"
        );
    }
}
