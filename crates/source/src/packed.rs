//! MADlib's packed tables, as `training_preprocessor_dl` and `validation_preprocessor_dl` make them: each
//! row is a buffer of many examples. They become tables with a row for each example again, in the order of
//! the buffers' numbers.
//!
//! ```text
//!  x: f32 bytes   x_shape {18,28,28,1}   y: int16 bytes, one-hot   y_shape {18,5}   buffer_id 0
//!  _summary: independent_varname {x}  dependent_varname {y}  y_class_values {NULL,a,b,NULL,NULL}
//!            normalizing_const 255
//! ```
//!
//! Buffers may be arrays, too. Inputs are divided by the constant already (MADlib multiplies by its
//! reciprocal as REAL); which constant it was is kept in the field's metadata, so that rows of other tables
//! can be divided by it.
//! Source: apache/madlib, `deep_learning/input_data_preprocessor.py_in`, and its documentation.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, Float32Array, Int32Array,
    RecordBatch,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef};
use arrowhop_types::{ClassList, Dtype, Problems};

use crate::classes::{NAMES, texts};
use crate::error::{SourceError, gather};
use crate::numbers::{Fault, Numbers, cast_exactly, number_type};
use crate::postgres::{Access, PartReport, Request, Rows};
use crate::shards::{list_of, tensor_metadata};
use crate::source::{Description, Source};
use crate::spec::{Location, elements};
use crate::storage::{Bytes, holds_bytes};
use crate::table::{Chunk, Table};
use crate::workspace::Workspace;

/// The metadata of an unpacked input: what it was divided by.
const DIVIDED_BY: &str = "divided_by";
/// The column with a buffer's number.
const BUFFER: &str = "buffer_id";

/// What a column of an unpacked table was divided by; nothing of any other table.
pub(crate) fn divided_by(field: &Field) -> Option<f64> {
    field.metadata().get(DIVIDED_BY)?.parse().ok()
}

/// What MADlib multiplies by to divide.
#[expect(clippy::cast_possible_truncation, reason = "as MADlib has it: REAL")]
pub(crate) fn factor(divided_by: f64) -> f32 {
    (1.0 / divided_by) as f32
}

impl Location {
    /// The packed table here, with its summary: the same name and `_summary`, before a file's end.
    ///
    /// # Errors
    /// When it is a query, of which no summary is known.
    pub fn packed(self) -> Result<Self, Problems> {
        let summary = match &self {
            Self::File(path) => Self::File(path.with_file_name(summary_file(
                path.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
            ))),
            Self::Object(url) => {
                let (folder, name) = url.rsplit_once('/').unwrap_or(("", url));
                Self::Object(format!("{folder}/{}", summary_file(name)))
            }
            Self::Postgres { server, request } => {
                let Rows::Table(name) = &request.rows else {
                    let text = "goes with a table or a file, which have a summary beside them";
                    return Err(Problems::one("packed", text));
                };
                let name = match name.trim().strip_suffix('"') {
                    Some(quoted) => format!("{quoted}_summary\""),
                    None => format!("{}_summary", name.trim()),
                };
                // It is a row, for which reading pages is not worth a lock.
                let rows = Rows::Table(name);
                let request = Request { rows, access: Access::Copy, ..(**request).clone() };
                Self::Postgres { server: server.clone(), request: Box::new(request) }
            }
            Self::Upload(_) => {
                let text = "does not go with an upload; upload the rows themselves";
                return Err(Problems::one("packed", text));
            }
            Self::Packed { .. } => return Ok(self),
            Self::Filtered { of, filter } => {
                return Ok(of.clone().packed()?.filtered(Some(filter.clone())));
            }
        };
        Ok(Self::Packed { table: Box::new(self), summary: Box::new(summary) })
    }
}

/// `train.parquet` has `train_summary.parquet`.
fn summary_file(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, end)) => format!("{stem}_summary.{end}"),
        None => format!("{name}_summary"),
    }
}

/// A packed column.
struct Packed {
    name: String,
    /// Of one example.
    shape: Vec<usize>,
    meaning: Meaning,
}

enum Meaning {
    /// Floats.
    Input { divided_by: f64 },
    /// One-hot vectors over these classes; their names as the source's column had them.
    Classes { list: ClassList, names: ArrayRef },
    /// Whole numbers that stay as they are.
    Values,
}

/// A packed table, and its summary.
pub(crate) struct PackedSource<'a> {
    pub(crate) table: &'a Location,
    pub(crate) summary: &'a Location,
}

impl Source for PackedSource<'_> {
    fn describe(&self) -> Result<Description, SourceError> {
        let (table, _) = self.open(None, &Workspace::in_memory())?;
        Ok(Description {
            schema: table.schema().clone().into(),
            rows: Some(u64::from(table.rows())),
            version: self.version()?,
            ..self.table.source().describe()?
        })
    }

    fn version(&self) -> Result<Option<String>, SourceError> {
        let versions = (self.table.version()?, self.summary.version()?);
        let (Some(table), Some(summary)) = versions else { return Ok(None) };
        Ok(Some(format!("{table}; summary {summary}")))
    }

    fn open(
        &self,
        _: Option<&[String]>,
        workspace: &Workspace,
    ) -> Result<(Table, Vec<PartReport>), SourceError> {
        let (table, mut parts) = self.table.source().open(None, workspace)?;
        let (summary, more) = self.summary.source().open(None, workspace)?;
        parts.extend(more);
        Ok((unpack(&table, &summary, workspace)?, parts))
    }
}

/// A packed table with its summary, as a table of examples.
fn unpack(table: &Table, summary: &Table, workspace: &Workspace) -> Result<Table, SourceError> {
    let columns = find(table, summary)?;
    let schema = Arc::new(Schema::new(columns.iter().map(Packed::field).collect::<Vec<_>>()));
    let shapes: Vec<String> = columns.iter().map(Packed::shape_name).collect();
    let mut names: Vec<&str> = Vec::new();
    for (column, shape) in columns.iter().zip(&shapes) {
        names.extend([column.name.as_str(), shape.as_str()]);
    }
    names.extend(table.field(BUFFER).is_ok().then_some(BUFFER));
    let rows: Vec<u32> = (0..table.rows()).collect();
    let nothing = vec![(); rows.len()];
    let parts = table
        .scan(&names, &rows, nothing, |chunk| unpack_chunk(table, &columns, &schema, &chunk))?;
    let mut buffers: Vec<(i64, RecordBatch)> = parts.into_iter().flatten().collect();
    buffers.sort_by_key(|(id, _)| *id);
    if let Some(twice) = buffers.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let text = format!("buffer {} is there twice", twice[0].0);
        return Err(Problems::one(table.column_place(BUFFER), text).into());
    }
    let batches = buffers.into_iter().map(|(_, batch)| workspace.keep(batch));
    let batches = batches.collect::<Result<_, _>>()?;
    Ok(Table::of(table.name(), schema, batches, workspace)?)
}

/// The packed columns that a summary tells of.
fn find(table: &Table, summary: &Table) -> Result<Vec<Packed>, Problems> {
    if summary.rows() != 1 {
        let text = format!("has {} rows, where a packed table's summary has one", summary.rows());
        return Err(Problems::one(summary.name(), text));
    }
    let mut problems = Problems::new();
    let inputs = gather(&mut problems, variables(summary, "independent_varname"));
    let targets = gather(&mut problems, variables(summary, "dependent_varname"));
    let divided_by = gather(&mut problems, constant(summary));
    problems.or(())?;
    let (inputs, targets) = (inputs.unwrap_or_default(), targets.unwrap_or_default());
    let divided_by = divided_by.unwrap_or(1.0);
    let mut problems = Problems::new();
    let mut columns = Vec::new();
    for name in named(table, inputs, "independent_var") {
        let found = shape_of(table, &name);
        columns.extend(gather(&mut problems, found).map(|shape| Packed {
            name,
            shape,
            meaning: Meaning::Input { divided_by },
        }));
    }
    for name in named(table, targets, "dependent_var") {
        let found = shape_of(table, &name).and_then(|shape| {
            let meaning = classes(summary, &name, &shape)?;
            Ok(Packed { name, shape, meaning })
        });
        columns.extend(gather(&mut problems, found));
    }
    problems.or(columns)
}

/// The names of variables; the only one may go by a fixed name, as up to MADlib 1.17.
fn named(table: &Table, names: Vec<String>, fixed: &str) -> Vec<String> {
    match names.as_slice() {
        [only] if table.field(only).is_err() && table.field(fixed).is_ok() => {
            vec![fixed.to_owned()]
        }
        _ => names,
    }
}

/// Names in a summary: an array, or a text with commas.
fn variables(summary: &Table, column: &str) -> Result<Vec<String>, Problems> {
    summary.field(column)?;
    let wrong = |text: &str| Problems::one(summary.column_place(column), text);
    let value = summary.value(column, 0)?;
    let names: Vec<String> = match list_values(&value) {
        Some(values) => {
            let values = texts(&values).map_err(|text| wrong(&text))?;
            values.iter().flatten().map(str::to_owned).collect()
        }
        None => {
            let value = texts(&value).map_err(|text| wrong(&text))?;
            let text = value.iter().flatten().next().unwrap_or_default();
            text.split(',').map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect()
        }
    };
    if names.is_empty() {
        return Err(wrong("names no column"));
    }
    Ok(names)
}

/// The elements of a list that is the only row of a column.
fn list_values(column: &ArrayRef) -> Option<ArrayRef> {
    if column.is_null(0) {
        return None;
    }
    match column.data_type() {
        DataType::List(_) => Some(column.as_list::<i32>().value(0)),
        DataType::LargeList(_) => Some(column.as_list::<i64>().value(0)),
        DataType::FixedSizeList(..) => Some(column.as_fixed_size_list().value(0)),
        _ => None,
    }
}

fn constant(summary: &Table) -> Result<f64, Problems> {
    let column = "normalizing_const";
    summary.field(column)?;
    let wrong = |text: String| Problems::one(summary.column_place(column), text);
    let value = cast_exactly(&summary.value(column, 0)?, &DataType::Float64)
        .map_err(|error| wrong(error.to_string()))?;
    match value.as_primitive::<Float64Type>().iter().next().flatten() {
        None => Ok(1.0),
        Some(constant) if constant.is_finite() && constant > 0.0 => Ok(constant),
        Some(constant) => Err(wrong(format!("is {constant}, and must be above 0"))),
    }
}

/// The shape of one example, by the first buffer.
fn shape_of(table: &Table, name: &str) -> Result<Vec<usize>, Problems> {
    table.field(name)?;
    let column = format!("{name}_shape");
    table.field(&column)?;
    let wrong = |text: String| Problems::one(table.row_place(&column, 0), text);
    let shapes = Numbers::new(&table.value(&column, 0)?, Dtype::I32)
        .map_err(|error| wrong(error.to_string()))?;
    let (_, shape) = split_shape(&shapes, 0).map_err(wrong)?;
    Ok(shape)
}

/// How many examples a buffer has, and the shape of each.
fn split_shape(shapes: &Numbers, row: usize) -> Result<(usize, Vec<usize>), String> {
    let shape = shapes.list_i32(row).map_err(|fault| fault.to_string())?;
    let lengths: Vec<usize> = shape.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
    match lengths.as_slice() {
        [rows, example @ ..] if lengths.len() == shape.len() && elements(example).is_some() => {
            Ok((*rows, example.to_vec()))
        }
        _ => Err(format!("is {shape:?}, which is no shape of a buffer: rows, then an example's")),
    }
}

/// What the vectors of a target are, by its class list.
fn classes(summary: &Table, name: &str, shape: &[usize]) -> Result<Meaning, Problems> {
    let own = format!("{name}_class_values");
    let column = if summary.field(&own).is_ok() { own.as_str() } else { "class_values" };
    summary.field(column)?;
    let wrong = |text: String| Problems::one(summary.column_place(column), text);
    let Some(names) = list_values(&summary.value(column, 0)?) else { return Ok(Meaning::Values) };
    let list = texts(&names).map_err(wrong)?;
    let list = ClassList::new(list.iter().map(|name| name.map(str::to_owned)).collect());
    if shape != [list.len()] {
        let text = format!("has {} classes, but vectors of `{name}` are {shape:?}", list.len());
        return Err(wrong(text));
    }
    Ok(Meaning::Classes { list, names })
}

impl Packed {
    fn shape_name(&self) -> String {
        format!("{}_shape", self.name)
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The unpacked column.
    fn field(&self) -> Field {
        match &self.meaning {
            Meaning::Input { divided_by } => {
                let mut metadata = tensor_metadata(&self.shape);
                metadata.insert(DIVIDED_BY.to_owned(), divided_by.to_string());
                let list = list_of(DataType::Float32, self.elements());
                Field::new(&self.name, list, false).with_metadata(metadata)
            }
            Meaning::Classes { list, names } => {
                let classes = serde_json::json!(list.names()).to_string();
                let indices = Box::new(DataType::Int32);
                let data_type = DataType::Dictionary(indices, Box::new(names.data_type().clone()));
                Field::new(&self.name, data_type, true)
                    .with_metadata([(NAMES.to_owned(), classes)].into())
            }
            Meaning::Values => {
                Field::new(&self.name, list_of(DataType::Float32, self.elements()), false)
            }
        }
    }

    /// The column of one buffer's examples.
    fn unpack(&self, values: Vec<f32>) -> Result<ArrayRef, String> {
        let Meaning::Classes { list, names } = &self.meaning else {
            let DataType::FixedSizeList(item, length) = list_of(DataType::Float32, self.elements())
            else {
                unreachable!("it is a list")
            };
            let values = Arc::new(Float32Array::from(values));
            return Ok(Arc::new(FixedSizeListArray::new(item, length, values, None)));
        };
        let mut indices = Vec::new();
        for (row, vector) in values.chunks_exact(list.len()).enumerate() {
            let class = vector.iter().position(|&value| value == 1.0);
            let ones = vector.iter().filter(|&&value| value != 0.0).count();
            let class = class.filter(|class| ones == 1 && list.is_class(*class));
            let Some(class) = class else {
                return Err(format!("has a vector that is no class, of its row {row}"));
            };
            let index = i32::try_from(class).map_err(|error| error.to_string())?;
            indices.push(list.name(class).map(|_| index));
        }
        let indices = Int32Array::from(indices);
        let column = DictionaryArray::<Int32Type>::try_new(indices, names.clone());
        Ok(Arc::new(column.map_err(|error| error.to_string())?))
    }
}

/// Buffers of a packed column.
enum Buffers {
    Bytes(Bytes),
    Numbers(Numbers),
}

impl Buffers {
    fn new(column: &ArrayRef) -> Result<Self, String> {
        if holds_bytes(column.data_type()) {
            return Ok(Self::Bytes(Bytes::new(column)));
        }
        if number_type(column.data_type()).is_none() {
            return Err(format!("holds {}; buffers are bytes or arrays", column.data_type()));
        }
        let numbers = Numbers::new(column, Dtype::F32).map_err(|error| error.to_string())?;
        Ok(Self::Numbers(numbers))
    }

    /// A buffer's elements, which must be so many; in bytes f32 or, of targets, int16, little-endian.
    fn elements(&self, row: usize, count: usize, is_target: bool) -> Result<Vec<f32>, String> {
        match self {
            Self::Bytes(bytes) => {
                let bytes = bytes.value(row).ok_or_else(|| Fault::Null.to_string())?;
                let wanted = count * if is_target { 2 } else { 4 };
                if bytes.len() != wanted {
                    let found = bytes.len();
                    return Err(format!("has {found} bytes, where its shape takes {wanted}"));
                }
                if is_target {
                    let pairs = bytes.as_chunks().0.iter();
                    return Ok(pairs.map(|&pair| f32::from(i16::from_le_bytes(pair))).collect());
                }
                Ok(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect())
            }
            Self::Numbers(numbers) => {
                let lengths = numbers.lengths(row);
                let values = numbers.row_f32(row, &lengths).map_err(|fault| fault.to_string())?;
                if values.len() != count {
                    let found = values.len();
                    return Err(format!("has {found} elements, where its shape takes {count}"));
                }
                Ok(values.to_vec())
            }
        }
    }
}

/// The buffers of a chunk, each with its number.
fn unpack_chunk(
    table: &Table,
    columns: &[Packed],
    schema: &SchemaRef,
    chunk: &Chunk<'_, ()>,
) -> Result<Vec<(i64, RecordBatch)>, Problems> {
    let mut problems = Problems::new();
    let ids = buffer_ids(table, chunk)?;
    let mut made: Vec<Vec<ArrayRef>> = ids.iter().map(|_| Vec::new()).collect();
    let mut rows: Vec<Option<usize>> = vec![None; ids.len()];
    for column in columns {
        let at = |id: i64| format!("{}, column `{}`, buffer {id}", table.name(), column.name);
        let in_column = |text: String| Problems::one(table.column_place(&column.name), text);
        let buffers = Buffers::new(&chunk.column(&column.name)).map_err(in_column)?;
        let shapes = Numbers::new(&chunk.column(&column.shape_name()), Dtype::I32)
            .map_err(|error| in_column(error.to_string()))?;
        let is_target = !matches!(column.meaning, Meaning::Input { .. });
        for (i, &id) in ids.iter().enumerate() {
            let unpacked = split_shape(&shapes, i).and_then(|(count, shape)| {
                if shape != column.shape {
                    let first = &column.shape;
                    return Err(format!("has examples of {shape:?}, and the first of {first:?}"));
                }
                if *rows[i].get_or_insert(count) != count {
                    return Err(format!("has {count} rows, and another column {:?}", rows[i]));
                }
                let count = count.checked_mul(column.elements()).ok_or("has too many elements")?;
                column.unpack(buffers.elements(i, count, is_target)?)
            });
            match unpacked {
                Ok(array) => made[i].push(array),
                Err(text) => problems.push(at(id), text),
            }
        }
    }
    problems.or(())?;
    let batch = |columns| RecordBatch::try_new(schema.clone(), columns);
    let made = made.into_iter().map(|columns| batch(columns).expect("columns fit their fields"));
    Ok(ids.into_iter().zip(made).collect())
}

/// The buffers' numbers, or where there is no such column their rows'.
fn buffer_ids(table: &Table, chunk: &Chunk<'_, ()>) -> Result<Vec<i64>, Problems> {
    if chunk.batch.column_by_name(BUFFER).is_none() {
        return Ok(chunk.rows.iter().map(|&row| row.into()).collect());
    }
    let wrong = |text: String| Problems::one(table.column_place(BUFFER), text);
    let ids = cast_exactly(&chunk.column(BUFFER), &DataType::Int64)
        .map_err(|error| wrong(error.to_string()))?;
    let ids = ids.as_primitive::<Int64Type>();
    if ids.null_count() > 0 {
        return Err(wrong("holds a null; every buffer has a number".into()));
    }
    Ok(ids.values().to_vec())
}
