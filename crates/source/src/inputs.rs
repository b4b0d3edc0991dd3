//! Which columns become an input, and how: a tensor, tokens, places of ones, or a table. Plain values;
//! checked here as far as they can be without opening a file.

use arrowhop_types::{Dtype, Problems};

use crate::pictures::SIDE_MAX;
use crate::spec::{ELEMENTS_MAX, TargetSpec, elements, shape_text};

/// Which columns become an input, and how.
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// One column holds the whole input.
    Tensor(TensorInputs),
    /// One column of sequences of tokens: lists of whole numbers from 0, or one number a row.
    Tokens {
        /// The column.
        column: String,
        /// Steps of every example; else those of the longest training row.
        length: Option<usize>,
        /// Where sequences that are too short get zeros.
        padding: Side,
        /// Where sequences that are too long lose tokens.
        truncating: Side,
    },
    /// One column of lists of equal lengths: the places of ones in a vector.
    OneHot {
        /// The column.
        column: String,
        /// The vector's length.
        width: u32,
    },
    /// One scalar column per feature.
    Table(TableInputs),
}

/// A column of raw bytes, JPEG or PNG images (also as Hugging Face's `{bytes, path}`), or lists of
/// numbers, nested or not.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInputs {
    /// The column.
    pub column: String,
    /// The shape of one example; else the field's metadata, the first image or the lists say.
    pub shape: Option<Vec<usize>>,
    /// Elements are divided by this when a batch is gathered; 1 for none.
    pub normalize: f32,
    /// What elements become, other than by themselves: bytes stay bytes, other numbers become f32.
    /// Numbers that become bytes must be whole numbers from 0 to 255.
    pub dtype: Option<Dtype>,
    /// What images become; then they may differ in size, or in channels.
    pub pictures: Pictures,
}

impl TensorInputs {
    /// A column as it is.
    #[must_use]
    pub fn of(column: impl Into<String>) -> Self {
        Self {
            column: column.into(),
            shape: None,
            normalize: 1.0,
            dtype: None,
            pictures: Pictures::default(),
        }
    }
}

/// What images are converted to, channels first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pictures {
    /// Height and width, and how they are reached; else as they are.
    pub resize: Option<([usize; 2], Resampling)>,
    /// 1, grey, or 3, colour; else as they are. Grey is ITU-R BT.601's luma.
    pub channels: Option<usize>,
}

/// How an image gets another size. When it shrinks, each pixel is a weighted mean of all that it stands
/// for, as in Pillow (in Keras: `antialias=True`), but for `Nearest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resampling {
    /// The pixel that is nearest.
    Nearest,
    /// Weights fall linearly with distance.
    #[default]
    Bilinear,
    /// Weights are R. G. Keys's cubic with a = −0.5.
    Bicubic,
}

/// Scalar columns that become one vector.
///
/// Numbers are kept (a missing one becomes the training mean), or fall into buckets; strings and
/// booleans become one-hot, with missing as a category of its own and a category that training did
/// not see as all zeros, or are hashed. Where every column is in buckets or hashed, the vector is
/// kept as the places of its ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableInputs {
    /// The columns in order; else all but the targets, those of other inputs, `id` and
    /// `__index_level_0__`.
    pub columns: Option<Vec<String>>,
    /// What is done with numbers that are kept.
    pub scale: Scale,
    /// Columns of numbers whose values are categories.
    pub categories: Vec<String>,
    /// Numbers fall into one bucket more than there are bounds, ascending: below the first, from
    /// the first on, and so forth. A missing number falls into the first.
    pub bounds: Vec<f64>,
    /// Categories are hashed into so many buckets: the first 8 bytes of blake3 of the text, as a
    /// little-endian number, modulo these. A missing category is the empty text.
    pub hash_buckets: Option<u32>,
}

/// How numbers are scaled, by what the training rows say. A column that is constant in training becomes
/// zeros; other numbers are scaled alike wherever they are, beyond the training rows' range, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// They stay as they are.
    #[default]
    Unscaled,
    /// The mean is subtracted, and what is left is divided by the standard deviation (of the
    /// population).
    Standardise,
    /// From the least to the greatest, to 0 to 1.
    MinMax,
}

/// One end of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first steps.
    Start,
    /// The last steps.
    End,
}

impl Inputs {
    /// The column that it is, unless it is a table.
    pub(crate) fn column(&self) -> Option<&str> {
        match self {
            Self::Tensor(TensorInputs { column, .. })
            | Self::Tokens { column, .. }
            | Self::OneHot { column, .. } => Some(column),
            Self::Table(_) => None,
        }
    }

    /// The columns that it names: all that it is of, unless it is a table of all that are left.
    pub(crate) fn columns(&self) -> Vec<&str> {
        match self {
            Self::Table(table) => table.columns.iter().flatten().map(String::as_str).collect(),
            single => single.column().into_iter().collect(),
        }
    }

    /// Checks all that needs no file.
    pub(crate) fn check(&self, targets: &[TargetSpec], problems: &mut Problems) {
        let is_target = |column: &str| targets.iter().any(|target| target.column == column);
        match self {
            Self::Tensor(tensor) => tensor.check(problems),
            Self::Tokens { length: Some(length), .. } if elements(&[*length]).is_none() => {
                problems.push("length", format!("is {length}; give 1 to {ELEMENTS_MAX}"));
            }
            Self::Tokens { .. } => {}
            Self::OneHot { width, .. } => check_width("one_hot", *width, problems),
            Self::Table(table) => table.check(&is_target, problems),
        }
        if let Some(column) = self.column().filter(|column| is_target(column)) {
            let text = format!("`{column}` is the target, too; name another column");
            problems.push("input column", text);
        }
    }
}

impl TensorInputs {
    fn check(&self, problems: &mut Problems) {
        let Self { normalize, shape, pictures, .. } = self;
        if !(normalize.is_finite() && *normalize > 0.0) {
            problems.push("normalize", format!("is {normalize}; give a positive number"));
        }
        if let Some(shape) = shape
            && elements(shape).is_none()
        {
            problems.push("shape", shape_text(shape));
        }
        if let Some((size, _)) = pictures.resize
            && (elements(&size).is_none() || size.iter().any(|side| *side > SIDE_MAX as usize))
        {
            let text = format!(
                "is {size:?}; give a height and a width of 1 to {SIDE_MAX}, with at most \
                 {ELEMENTS_MAX} pixels"
            );
            problems.push("resize", text);
        }
        if let Some(channels) = pictures.channels.filter(|channels| ![1, 3].contains(channels)) {
            problems.push("channels", format!("is {channels}; give 1, for grey, or 3, for colour"));
        }
        if self.dtype == Some(Dtype::I32) {
            problems.push("dtype", "is i32, which tokens are; give u8 or f32");
        }
    }
}

impl TableInputs {
    fn check(&self, is_target: &dyn Fn(&str) -> bool, problems: &mut Problems) {
        let columns = self.columns.as_deref().unwrap_or_default();
        if self.columns.is_some() && columns.is_empty() {
            problems.push("columns", "is empty; name columns, or leave it out for all");
        }
        for (i, column) in columns.iter().enumerate() {
            if is_target(column) {
                problems.push("columns", format!("`{column}` is the target; leave it out"));
            }
            if columns[..i].contains(column) {
                problems.push("columns", format!("`{column}` is there twice"));
            }
        }
        for category in &self.categories {
            if self.columns.is_some() && !columns.contains(category) {
                let text = format!("`{category}` is none of the columns; add it to them");
                problems.push("categories", text);
            }
        }
        let ascends = self.bounds.is_sorted_by(|a, b| a < b);
        if !ascends || self.bounds.iter().any(|bound| !bound.is_finite()) {
            problems.push("bounds", "must be finite numbers in ascending order");
        }
        if let Some(buckets) = self.hash_buckets {
            check_width("hash_buckets", buckets, problems);
        }
    }
}

fn check_width(place: &str, width: u32, problems: &mut Problems) {
    if elements(&[width as usize]).is_none() {
        problems.push(place, format!("is {width}; give 1 to {ELEMENTS_MAX}"));
    }
}
