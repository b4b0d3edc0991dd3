//! A view of a shard's rows as they are cached, and the gathering of batches from it.
//!
//! Every column lies in chunks of equal numbers of rows, but for the last one, so that the row of an
//! index is found by a division.

use std::sync::Arc;

use arrowhop_types::{Dtype, Encoding, InputSpec, Problems, Target, TargetColumn};

use arrowhop_network::Input;
use burn::tensor::{Tensor, TensorData};

use crate::device::Device;
use crate::resident::Resident;
use crate::task::Task;

/// Tokens are below this at most: f32 counts so far by ones.
const TOKENS_MAX: u32 = 1 << 24;

/// Chunks of one input column, row-major, as cached.
#[derive(Debug, Clone)]
pub enum InputChunks<'a> {
    /// Bytes.
    U8(Vec<&'a [u8]>),
    /// Tokens, or places of ones.
    I32(Vec<&'a [i32]>),
    /// Single-precision floats.
    F32(Vec<&'a [f32]>),
}

/// Chunks of one target column, row-major, as cached.
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
    columns: Vec<InputColumn<'a>>,
    layout: Layout,
    /// Where models see them.
    device: burn::tensor::Device,
    /// The same in the device's memory.
    resident: Option<Arc<Resident>>,
}

/// Rows with targets, checked against a task.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    inputs: Inputs<'a>,
    /// Each with the elements of its rows.
    targets: Vec<(TargetChunks<'a>, usize)>,
}

/// Targets of one output of one batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Targets {
    Classes(Vec<usize>),
    Values(Vec<f32>),
}

/// One input of a network.
#[derive(Debug, Clone)]
pub(crate) struct InputColumn<'a> {
    pub(crate) chunks: InputChunks<'a>,
    /// Of a row as it is cached.
    pub(crate) elements: usize,
    pub(crate) gathered: Gathered,
}

/// One input of a batch, row-major.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) values: Vec<f32>,
    /// In each row.
    pub(crate) elements: usize,
    /// The values are the indices of ones.
    pub(crate) is_one_hot: bool,
}

/// What becomes of a row in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gathered {
    /// Its numbers, divided by this.
    Numbers { normalize: f32 },
    /// Its tokens.
    Tokens,
    /// The places of ones, for a network that takes them so.
    Places,
    /// The vector of this length with ones at those places.
    Vector { width: usize },
}

/// Where rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    rows: usize,
    /// Rows of each chunk but the last.
    chunk_rows: usize,
}

impl<'a> Inputs<'a> {
    /// A view of these columns, those of [`Task::inputs`] in their order.
    ///
    /// # Errors
    /// Each column whose type or lengths are not the task's, or that holds a token or a place that
    /// the network does not have.
    pub fn new(task: &Task, columns: Vec<InputChunks<'a>>) -> Result<Self, Problems> {
        assert_eq!(columns.len(), task.inputs.len(), "a task's rows have all of its inputs");
        let mut problems = Problems::new();
        let mut view: Vec<InputColumn<'a>> = Vec::new();
        let mut layout = Layout { rows: 0, chunk_rows: 1 };
        for (number, (chunks, spec)) in columns.into_iter().zip(&task.inputs).enumerate() {
            let found = check_input(&chunks, task, number).and_then(|found| {
                if number > 0 && found != layout {
                    let first = &task.inputs[0].name;
                    return Err(chunked_otherwise(&spec.name, found, first, layout));
                }
                Ok(found)
            });
            match found {
                Ok(found) => layout = found,
                Err(found) => problems.extend("", &found),
            }
            let gathered = Gathered::of(task, number);
            view.push(InputColumn { chunks, elements: spec.elements(), gathered });
        }
        problems.or(Self {
            columns: view,
            layout,
            device: burn::tensor::Device::flex(),
            resident: None,
        })
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// The same rows for models on another device than the CPU. They are gathered here and sent
    /// there batch by batch, unless `resident` has them already; it must be of these inputs.
    #[must_use]
    pub fn on(mut self, device: &Device, resident: Option<Arc<Resident>>) -> Self {
        self.device = device.inner().clone();
        self.resident = resident;
        self
    }

    /// Where models see these rows.
    pub(crate) fn device(&self) -> &burn::tensor::Device {
        &self.device
    }

    /// The inputs of these rows, on their device.
    pub(crate) fn batch(&self, indices: &[u32]) -> Vec<Input> {
        match &self.resident {
            Some(resident) => resident.batch(&self.columns, indices),
            None => tensors(self.gather(indices), &self.device),
        }
    }

    fn gather(&self, indices: &[u32]) -> Vec<Column> {
        self.columns.iter().map(|column| column.gather(self.layout, indices)).collect()
    }

    pub(crate) fn columns(&self) -> &[InputColumn<'a>] {
        &self.columns
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }
}

impl Gathered {
    fn of(task: &Task, input: usize) -> Self {
        match task.inputs[input].encoding {
            Encoding::Numbers { normalize } => Self::Numbers { normalize },
            Encoding::Tokens { .. } => Self::Tokens,
            Encoding::OneHot { .. } if task.network.takes_one_hot(input) => Self::Places,
            Encoding::OneHot { width } => Self::Vector { width: width as usize },
        }
    }
}

impl InputColumn<'_> {
    /// Words of four bytes that a row takes on a device.
    pub(crate) fn words(&self) -> usize {
        match self.chunks {
            InputChunks::U8(_) => self.elements.div_ceil(4),
            InputChunks::I32(_) | InputChunks::F32(_) => self.elements,
        }
    }

    /// These rows' bytes, four to a word, each row from a word on.
    ///
    /// # Panics
    /// When the column is not of bytes.
    pub(crate) fn packed(&self, layout: Layout, indices: &[u32]) -> Vec<i32> {
        let InputChunks::U8(chunks) = &self.chunks else { panic!("only bytes are packed") };
        let rows = indices.iter().map(|&index| layout.row(chunks, self.elements, index));
        let words = rows.flat_map(|row| {
            row.chunks(4).map(|bytes| {
                let mut word = [0; 4];
                word[..bytes.len()].copy_from_slice(bytes);
                i32::from_le_bytes(word)
            })
        });
        words.collect()
    }

    /// These rows' numbers as they are cached.
    ///
    /// # Panics
    /// When the column is of bytes.
    pub(crate) fn numbers(&self, layout: Layout, indices: &[u32]) -> Vec<f32> {
        let elements = self.elements;
        let mut values = Vec::with_capacity(indices.len() * elements);
        for &index in indices {
            match &self.chunks {
                InputChunks::U8(_) => panic!("bytes are packed"),
                InputChunks::I32(chunks) => {
                    values.extend(layout.row(chunks, elements, index).iter().map(whole));
                }
                InputChunks::F32(chunks) => {
                    values.extend_from_slice(layout.row(chunks, elements, index));
                }
            }
        }
        values
    }

    /// These rows as floats.
    fn gather(&self, layout: Layout, indices: &[u32]) -> Column {
        let elements = self.elements;
        let mut values = Vec::with_capacity(indices.len() * elements);
        match (&self.chunks, self.gathered) {
            (InputChunks::U8(chunks), Gathered::Numbers { normalize }) => {
                for &index in indices {
                    let row = layout.row(chunks, elements, index);
                    values.extend(row.iter().map(|&byte| f32::from(byte) / normalize));
                }
            }
            (InputChunks::F32(chunks), Gathered::Numbers { normalize }) => {
                for &index in indices {
                    let row = layout.row(chunks, elements, index);
                    #[expect(clippy::float_cmp, reason = "exactly 1 means no division")]
                    if normalize == 1.0 {
                        values.extend_from_slice(row);
                    } else {
                        values.extend(row.iter().map(|value| value / normalize));
                    }
                }
            }
            (InputChunks::I32(chunks), Gathered::Tokens | Gathered::Places) => {
                for &index in indices {
                    values.extend(layout.row(chunks, elements, index).iter().map(whole));
                }
            }
            (InputChunks::I32(chunks), Gathered::Vector { width }) => {
                values.resize(indices.len() * width, 0.0);
                for (vector, &index) in values.chunks_exact_mut(width).zip(indices) {
                    for &place in layout.row(chunks, elements, index) {
                        vector[usize::try_from(place).expect("places were checked")] += 1.0;
                    }
                }
                return Column { values, elements: width, is_one_hot: false };
            }
            _ => unreachable!("types were checked against encodings"),
        }
        let is_one_hot = matches!(self.gathered, Gathered::Places);
        Column { values, elements, is_one_hot }
    }
}

impl<'a> Rows<'a> {
    /// A view of these columns, those of [`Task::inputs`] and [`Task::targets`] in their order.
    ///
    /// # Errors
    /// As [`Inputs::new`], and each target whose type or lengths are not the task's, or with a class
    /// that is not one of the target's.
    pub fn new(
        task: &Task,
        inputs: Vec<InputChunks<'a>>,
        targets: Vec<TargetChunks<'a>>,
    ) -> Result<Self, Problems> {
        assert_eq!(targets.len(), task.targets.len(), "a task's rows have all of its targets");
        let inputs = Inputs::new(task, inputs)?;
        let mut problems = Problems::new();
        let mut view = Vec::new();
        for (chunks, column) in targets.into_iter().zip(&task.targets) {
            let found = check_target(&chunks, column).and_then(|(layout, width)| {
                if layout != inputs.layout {
                    let first = &task.inputs[0].name;
                    return Err(chunked_otherwise(&column.name, layout, first, inputs.layout));
                }
                Ok(width)
            });
            match found {
                Ok(width) => view.push((chunks, width)),
                Err(found) => problems.extend("", &found),
            }
        }
        problems.or(Self { inputs, targets: view })
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.inputs.rows()
    }

    /// As [`Inputs::on`].
    #[must_use]
    pub fn on(mut self, device: &Device, resident: Option<Arc<Resident>>) -> Self {
        self.inputs = self.inputs.on(device, resident);
        self
    }

    /// The rows without their targets.
    #[must_use]
    pub fn inputs(&self) -> &Inputs<'a> {
        &self.inputs
    }

    /// The targets of these rows, output by output.
    pub(crate) fn targets(&self, indices: &[u32]) -> Vec<Targets> {
        let layout = self.inputs.layout;
        let of = |(chunks, width): &(TargetChunks<'a>, usize)| match chunks {
            TargetChunks::Classes(chunks) => {
                let class = |&index: &u32| {
                    let class = layout.row(chunks, 1, index)[0];
                    usize::try_from(class).expect("classes were checked to be in range")
                };
                Targets::Classes(indices.iter().map(class).collect())
            }
            TargetChunks::Values(chunks) => {
                let rows = indices.iter().flat_map(|&i| layout.row(chunks, *width, i));
                Targets::Values(rows.copied().collect())
            }
        };
        self.targets.iter().map(of).collect()
    }
}

/// A token or a place as a float.
#[expect(clippy::cast_precision_loss, reason = "they are below TOKENS_MAX")]
fn whole(token: &i32) -> f32 {
    *token as f32
}

/// A batch's inputs on a device.
pub(crate) fn tensors(inputs: Vec<Column>, device: &burn::tensor::Device) -> Vec<Input> {
    let inputs = inputs.into_iter().map(|column| {
        let shape = [column.values.len() / column.elements, column.elements];
        let tensor = Tensor::from_data(TensorData::new(column.values, shape), device);
        if column.is_one_hot { Input::OneHot(tensor) } else { Input::Values(tensor) }
    });
    inputs.collect()
}

/// The layout of an input's chunks; else what is wrong with them.
fn check_input(chunks: &InputChunks<'_>, task: &Task, number: usize) -> Result<Layout, Problems> {
    let spec = &task.inputs[number];
    let elements = spec.elements();
    let (dtype, layout) = match chunks {
        InputChunks::U8(chunks) => (Dtype::U8, Layout::of(chunks, elements)),
        InputChunks::I32(chunks) => (Dtype::I32, Layout::of(chunks, elements)),
        InputChunks::F32(chunks) => (Dtype::F32, Layout::of(chunks, elements)),
    };
    if dtype != spec.dtype {
        let text = format!("must be {:?}, not {dtype:?}", spec.dtype);
        return Err(Problems::one(&spec.name, text));
    }
    if let InputChunks::I32(chunks) = chunks {
        check_whole(chunks, spec, task, number)?;
    }
    layout.map_err(|text| Problems::one(&spec.name, text))
}

/// Tokens and places are what the network has.
fn check_whole(
    chunks: &[&[i32]],
    spec: &InputSpec,
    task: &Task,
    number: usize,
) -> Result<(), Problems> {
    let (limit, whose) = match (spec.encoding, task.network.vocabulary(number)) {
        (Encoding::OneHot { width }, _) => (width, "the vector's length".to_owned()),
        (_, Some((layer, size))) => (size, format!("the input_dim of Embedding {layer:?}")),
        (_, None) => (TOKENS_MAX, "the most that there is".to_owned()),
    };
    let elements = spec.elements();
    match first_beyond(chunks, limit) {
        None => Ok(()),
        Some((at, value)) => {
            let place = format!("{}, row {}", spec.name, at / elements);
            Err(Problems::one(place, format!("{value} is not below {limit}, {whose}")))
        }
    }
}

/// The layout of a target's chunks and the elements of its rows; else what is wrong with them.
fn check_target(
    chunks: &TargetChunks<'_>,
    column: &TargetColumn,
) -> Result<(Layout, usize), Problems> {
    let wrong = |text: String| Problems::one(&column.name, text);
    let (layout, width) = match (chunks, &column.target) {
        (TargetChunks::Classes(chunks), Target::Classes(names)) => {
            let classes = u32::try_from(names.len()).unwrap_or(u32::MAX);
            if let Some((row, class)) = first_beyond(chunks, classes) {
                let place = format!("{}, row {row}", column.name);
                return Err(Problems::one(place, format!("class {class} is not below {classes}")));
            }
            (Layout::of(chunks, 1), 1)
        }
        (TargetChunks::Values(chunks), Target::Values(width)) => {
            (Layout::of(chunks, *width), *width)
        }
        (TargetChunks::Classes(_), Target::Values(_)) => {
            return Err(wrong("must be values, not classes".into()));
        }
        (TargetChunks::Values(_), Target::Classes(_)) => {
            return Err(wrong("must be classes, not values".into()));
        }
    };
    Ok((layout.map_err(wrong)?, width))
}

fn chunked_otherwise(name: &str, layout: Layout, other: &str, others: Layout) -> Problems {
    Problems::one(name, format!("is chunked as {layout:?}, but {other} as {others:?}"))
}

/// The first element that is not from 0 below `limit`, by its place in all chunks.
fn first_beyond(chunks: &[&[i32]], limit: u32) -> Option<(usize, i32)> {
    let is_beyond = |value: i32| u32::try_from(value).map_or(true, |value| value >= limit);
    let mut before = 0;
    for chunk in chunks {
        // Without a branch per element: whole chunks are right, as a rule.
        let any = chunk.iter().fold(false, |any, &value| any | is_beyond(value));
        if any {
            let at = chunk.iter().position(|&value| is_beyond(value));
            return at.map(|at| (before + at, chunk[at]));
        }
        before += chunk.len();
    }
    None
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{sgd, softmax_regression, task};

    fn bytes_task(normalize: f32) -> Task {
        let mut task = softmax_regression(sgd(0.1));
        task.inputs = vec![InputSpec::numbers(vec![2], Dtype::U8, normalize)];
        task
    }

    /// Two indices of ones in a vector of five, for a network that takes them so, or not.
    fn one_hot_task(activation_first: bool) -> Task {
        let mut layers = vec![json!({"class_name": "Dense", "config": {"name": "out", "units": 2,
            "activation": "softmax", "batch_input_shape": [null, 5]}})];
        if activation_first {
            layers.insert(
                0,
                json!({"class_name": "Activation", "config": {"name": "first",
                "activation": "relu", "batch_input_shape": [null, 5]}}),
            );
        }
        let mut task = task(&json!(layers), 5, 2, sgd(0.1), 2, 1);
        task.inputs = vec![InputSpec {
            name: "x".into(),
            shape: vec![2],
            dtype: Dtype::I32,
            encoding: Encoding::OneHot { width: 5 },
        }];
        task
    }

    fn gathered(inputs: &Inputs<'_>, indices: &[u32]) -> (Vec<f32>, bool) {
        let column = inputs.gather(indices).remove(0);
        (column.values, column.is_one_hot)
    }

    #[test]
    fn batches_are_gathered_across_chunks() {
        let task = bytes_task(255.0);
        let x = InputChunks::U8(vec![&[0, 51, 102, 153], &[204, 255, 255, 0], &[51, 0]]);
        let y = TargetChunks::Classes(vec![&[0, 1], &[1, 0], &[1]]);
        let rows = Rows::new(&task, vec![x], vec![y]).unwrap();
        assert_eq!(rows.rows(), 5);
        let (batch, _) = gathered(rows.inputs(), &[4, 0, 3]);
        assert_eq!(batch, [0.2, 0.0, 0.0, 0.2, 1.0, 0.0]);
        assert_eq!(rows.targets(&[4, 0, 3]), [Targets::Classes(vec![1, 0, 0])]);
    }

    #[test]
    fn values_are_gathered_row_by_row() {
        let mut task = bytes_task(1.0);
        task.targets[0].target = Target::Values(2);
        let x = InputChunks::U8(vec![&[1, 2, 3, 4]]);
        let y = TargetChunks::Values(vec![&[1.0, 2.0, 3.0, 4.0]]);
        let rows = Rows::new(&task, vec![x], vec![y]).unwrap();
        assert_eq!(rows.targets(&[1, 0]), [Targets::Values(vec![3.0, 4.0, 1.0, 2.0])]);
    }

    #[test]
    fn places_of_ones_are_written_out_only_for_networks_that_need_it() {
        let x = || vec![InputChunks::I32(vec![&[4, 1], &[3, 3]])];
        let places = Inputs::new(&one_hot_task(false), x()).unwrap();
        assert_eq!(gathered(&places, &[1, 0]), (vec![3.0, 3.0, 4.0, 1.0], true));
        let vectors = Inputs::new(&one_hot_task(true), x()).unwrap();
        let expected = vec![0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        assert_eq!(gathered(&vectors, &[1, 0]), (expected, false));
        let refused =
            Inputs::new(&one_hot_task(false), vec![InputChunks::I32(vec![&[4, 1, 0, 5]])]);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "x, row 1: 5 is not below 5, the vector's length"
        );
    }

    #[test]
    fn chunks_that_do_not_fit_are_named() {
        let task = bytes_task(255.0);
        let two = || InputChunks::U8(vec![&[1, 2, 3, 4]]);
        let refused = |x, y| Rows::new(&task, vec![x], vec![y]).unwrap_err().to_string();
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
        let (x, y) = (InputChunks::U8(vec![]), TargetChunks::Classes(vec![]));
        let rows = Rows::new(&task, vec![x], vec![y]).unwrap();
        assert_eq!(rows.rows(), 0);
    }
}
