//! A view of a shard's rows as they are cached, and the gathering of batches from it.
//!
//! Rows lie in chunks of equal numbers of rows, but for the last one, so that the row of an index
//! is found by a division.

use arrowhop_types::{Dtype, Problems, Target};

use crate::learner::Column;
use crate::task::Task;

/// Chunks of inputs, row-major, as cached.
#[derive(Debug, Clone)]
pub enum InputChunks<'a> {
    /// Bytes.
    U8(Vec<&'a [u8]>),
    /// Single-precision floats.
    F32(Vec<&'a [f32]>),
}

/// Chunks of targets, row-major, as cached.
#[derive(Debug, Clone)]
pub enum TargetChunks<'a> {
    /// The index of each row's class.
    Classes(Vec<&'a [i32]>),
    /// Each row's values.
    Values(Vec<&'a [f32]>),
}

/// Rows without targets, checked against a task.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    chunks: InputChunks<'a>,
    layout: Layout,
    elements: usize,
    normalize: f32,
}

/// Rows with targets, checked against a task.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    inputs: Inputs<'a>,
    targets: TargetChunks<'a>,
    width: usize,
}

/// Targets of one batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Targets {
    Classes(Vec<usize>),
    Values(Vec<f32>),
}

/// Where rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    rows: usize,
    /// Rows of each chunk but the last.
    chunk_rows: usize,
}

impl<'a> Inputs<'a> {
    /// A view of these chunks.
    ///
    /// # Errors
    /// When their type or their lengths are not the task's.
    pub fn new(task: &Task, chunks: InputChunks<'a>) -> Result<Self, Problems> {
        let elements = task.input.elements();
        let (dtype, layout) = match &chunks {
            InputChunks::U8(chunks) => (Dtype::U8, Layout::of(chunks, elements)),
            InputChunks::F32(chunks) => (Dtype::F32, Layout::of(chunks, elements)),
        };
        if dtype != task.input.dtype {
            let expected = task.input.dtype;
            return Err(Problems::one("x", format!("must be {expected:?}, not {dtype:?}")));
        }
        let layout = layout.map_err(|text| Problems::one("x", text))?;
        Ok(Self { chunks, layout, elements, normalize: task.input.normalize })
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// The inputs of these rows.
    pub(crate) fn batch(&self, indices: &[u32]) -> Vec<Column> {
        let mut values = Vec::new();
        self.gather(indices, &mut values);
        vec![Column { values, elements: self.elements, is_one_hot: false }]
    }

    /// Fills `batch` with these rows as floats, divided by the normalizing constant.
    fn gather(&self, indices: &[u32], batch: &mut Vec<f32>) {
        batch.clear();
        batch.reserve(indices.len() * self.elements);
        match &self.chunks {
            InputChunks::U8(chunks) => {
                for &index in indices {
                    let row = self.layout.row(chunks, self.elements, index);
                    batch.extend(row.iter().map(|&byte| f32::from(byte) / self.normalize));
                }
            }
            InputChunks::F32(chunks) => {
                for &index in indices {
                    let row = self.layout.row(chunks, self.elements, index);
                    #[expect(clippy::float_cmp, reason = "exactly 1 means no division")]
                    if self.normalize == 1.0 {
                        batch.extend_from_slice(row);
                    } else {
                        batch.extend(row.iter().map(|value| value / self.normalize));
                    }
                }
            }
        }
    }
}

impl<'a> Rows<'a> {
    /// A view of these chunks.
    ///
    /// # Errors
    /// When their types or lengths are not the task's, or a class is not one of the target's.
    pub fn new(
        task: &Task,
        inputs: InputChunks<'a>,
        targets: TargetChunks<'a>,
    ) -> Result<Self, Problems> {
        let inputs = Inputs::new(task, inputs)?;
        let (layout, width) = match (&targets, &task.target) {
            (TargetChunks::Classes(chunks), Target::Classes(names)) => {
                check_classes(chunks, names.len())?;
                (Layout::of(chunks, 1), 1)
            }
            (TargetChunks::Values(chunks), Target::Values(width)) => {
                (Layout::of(chunks, *width), *width)
            }
            (TargetChunks::Classes(_), Target::Values(_)) => {
                return Err(Problems::one("y", "must be values, not classes"));
            }
            (TargetChunks::Values(_), Target::Classes(_)) => {
                return Err(Problems::one("y", "must be classes, not values"));
            }
        };
        let layout = layout.map_err(|text| Problems::one("y", text))?;
        if layout != inputs.layout {
            let text = format!("is chunked as {layout:?}, but x as {:?}", inputs.layout);
            return Err(Problems::one("y", text));
        }
        Ok(Self { inputs, targets, width })
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.inputs.rows()
    }

    pub(crate) fn inputs(&self) -> &Inputs<'a> {
        &self.inputs
    }

    /// The targets of these rows.
    pub(crate) fn targets(&self, indices: &[u32]) -> Targets {
        let layout = self.inputs.layout;
        match &self.targets {
            TargetChunks::Classes(chunks) => {
                let class = |&index: &u32| {
                    let class = layout.row(chunks, 1, index)[0];
                    usize::try_from(class).expect("classes were checked to be in range")
                };
                Targets::Classes(indices.iter().map(class).collect())
            }
            TargetChunks::Values(chunks) => {
                let rows = indices.iter().flat_map(|&i| layout.row(chunks, self.width, i));
                Targets::Values(rows.copied().collect())
            }
        }
    }
}

impl Layout {
    /// The layout of chunks whose rows have `elements` elements; else what is wrong with them.
    fn of<T>(chunks: &[&[T]], elements: usize) -> Result<Self, String> {
        let mut rows = 0;
        let mut chunk_rows = 1;
        for (i, chunk) in chunks.iter().enumerate() {
            let length = chunk.len();
            if !length.is_multiple_of(elements) {
                return Err(format!(
                    "chunk {i} has {length} elements, not whole rows of {elements}"
                ));
            }
            let here = length / elements;
            if i == 0 {
                chunk_rows = here.max(1);
            }
            let is_last = i + 1 == chunks.len();
            if here > chunk_rows || (!is_last && here != chunk_rows) {
                return Err(format!("chunk {i} has {here} rows, but the first has {chunk_rows}"));
            }
            rows += here;
        }
        if u32::try_from(rows).is_err() {
            return Err(format!("{rows} rows are more than 2^32-1; use more shards"));
        }
        Ok(Self { rows, chunk_rows })
    }

    fn row<'a, T>(self, chunks: &[&'a [T]], elements: usize, index: u32) -> &'a [T] {
        let index = index as usize;
        let start = index % self.chunk_rows * elements;
        &chunks[index / self.chunk_rows][start..start + elements]
    }
}

fn check_classes(chunks: &[&[i32]], classes: usize) -> Result<(), Problems> {
    let is_class = |class: i32| usize::try_from(class).is_ok_and(|class| class < classes);
    let mut row = 0;
    for chunk in chunks {
        if let Some(i) = chunk.iter().position(|&class| !is_class(class)) {
            let (place, class) = (format!("y, row {}", row + i), chunk[i]);
            return Err(Problems::one(place, format!("class {class} is not below {classes}")));
        }
        row += chunk.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{sgd, softmax_regression};

    fn bytes_task(normalize: f32) -> Task {
        let mut task = softmax_regression(sgd(0.1));
        task.input.dtype = Dtype::U8;
        task.input.normalize = normalize;
        task
    }

    #[test]
    fn batches_are_gathered_across_chunks() {
        let task = bytes_task(255.0);
        let x = InputChunks::U8(vec![&[0, 51, 102, 153], &[204, 255, 255, 0], &[51, 0]]);
        let y = TargetChunks::Classes(vec![&[0, 1], &[1, 0], &[1]]);
        let rows = Rows::new(&task, x, y).unwrap();
        assert_eq!(rows.rows(), 5);
        let mut batch = vec![9.0];
        rows.inputs().gather(&[4, 0, 3], &mut batch);
        assert_eq!(batch, [0.2, 0.0, 0.0, 0.2, 1.0, 0.0]);
        assert_eq!(rows.targets(&[4, 0, 3]), Targets::Classes(vec![1, 0, 0]));
    }

    #[test]
    fn values_are_gathered_row_by_row() {
        let mut task = bytes_task(1.0);
        task.target = Target::Values(2);
        let x = InputChunks::U8(vec![&[1, 2, 3, 4]]);
        let rows = Rows::new(&task, x, TargetChunks::Values(vec![&[1.0, 2.0, 3.0, 4.0]])).unwrap();
        assert_eq!(rows.targets(&[1, 0]), Targets::Values(vec![3.0, 4.0, 1.0, 2.0]));
    }

    #[test]
    fn chunks_that_do_not_fit_are_named() {
        let task = bytes_task(255.0);
        let two = || InputChunks::U8(vec![&[1, 2, 3, 4]]);
        let refused = |x, y| Rows::new(&task, x, y).unwrap_err().to_string();
        let classes = |chunks| TargetChunks::Classes(chunks);
        let table = [
            (InputChunks::F32(vec![]), classes(vec![]), "x: must be U8, not F32"),
            (InputChunks::U8(vec![&[1]]), classes(vec![]), "x: chunk 0 has 1 elements, not whole"),
            (
                InputChunks::U8(vec![&[1, 2], &[3, 4, 5, 6]]),
                classes(vec![]),
                "x: chunk 1 has 2 rows, but the first has 1",
            ),
            (two(), classes(vec![&[0, 2]]), "y, row 1: class 2 is not below 2"),
            (two(), classes(vec![&[0, -1]]), "y, row 1: class -1 is not below 2"),
            (two(), classes(vec![&[0]]), "y: is chunked as"),
            (two(), classes(vec![&[0], &[0]]), "y: is chunked as"),
            (two(), TargetChunks::Values(vec![]), "y: must be classes, not values"),
        ];
        for (x, y, expected) in table {
            let found = refused(x, y);
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn an_empty_shard_has_no_rows() {
        let task = bytes_task(1.0);
        let rows =
            Rows::new(&task, InputChunks::U8(vec![]), TargetChunks::Classes(vec![])).unwrap();
        assert_eq!(rows.rows(), 0);
    }
}
