//! One column that holds the whole input of a network: raw bytes, encoded images, or numbers in
//! lists. How a file stores it is found out file by file; type and shape are the training file's.

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, LargeBinaryArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};
use arrowhop_types::{Dtype, InputSpec, Problems};

use crate::numbers::{Fault, Numbers, cast_exactly, number_type};
use crate::pictures;
use crate::spec::{elements, shape_text};
use crate::table::{Chunk, Table};

/// How a column becomes `x`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorEncoder {
    /// The column.
    pub(crate) column: String,
    /// What it becomes.
    pub(crate) input: InputSpec,
}

/// How a file stores the column.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// JPEG or PNG images.
    Pictures,
    /// The elements themselves, one byte each.
    Bytes,
    /// Numbers in lists of these lengths.
    Numbers(Vec<usize>),
}

impl TensorEncoder {
    /// Finds out what a training file's column holds, from its type and the first row used.
    pub(crate) fn resolve(
        table: &Table,
        column: &str,
        shape: Option<&[usize]>,
        normalize: f32,
        row: u32,
    ) -> Result<Self, Problems> {
        let wrong = |text: String| Problems::one(table.column_place(column), text);
        let declared = match shape {
            Some(shape) => Some(shape.to_vec()),
            None => declared_shape(table.field(column)?).map_err(wrong)?,
        };
        let (storage, dtype, stored) = inspect(table, column, row, declared.is_some())?;
        let shape = declared.unwrap_or_else(|| stored.clone());
        check_shape(&storage, &shape, &stored).map_err(wrong)?;
        Ok(Self {
            column: column.to_owned(),
            input: InputSpec {
                shape,
                dtype,
                normalize,
            },
        })
    }

    /// How a file stores the column; whether it can become the same input is checked.
    pub(crate) fn storage(&self, table: &Table, row: u32) -> Result<Storage, Problems> {
        let wrong = |text: String| Problems::one(table.column_place(&self.column), text);
        let (storage, dtype, stored) = inspect(table, &self.column, row, true)?;
        if storage != Storage::Pictures {
            check_shape(&storage, &self.input.shape, &stored).map_err(wrong)?;
        }
        let is_widened = dtype == Dtype::U8 && matches!(storage, Storage::Numbers(_));
        match (self.input.dtype, dtype) {
            (Dtype::U8, Dtype::F32) => Err(wrong(
                "holds numbers other than bytes, where the training file has bytes; cast it to \
                 uint8"
                    .into(),
            )),
            (Dtype::F32, Dtype::U8) if !is_widened => Err(wrong(
                "holds bytes, where the training file has numbers".into(),
            )),
            _ => Ok(storage),
        }
    }

    /// Writes rows of bytes into their places.
    pub(crate) fn encode_u8(
        &self,
        table: &Table,
        storage: &Storage,
        chunk: Chunk<'_, &mut [u8]>,
    ) -> Result<(), Problems> {
        let column = chunk.column(&self.column);
        if let Storage::Numbers(lengths) = storage {
            let numbers = self.numbers(table, &column)?;
            return self.each(table, chunk, |i, place| {
                place.copy_from_slice(numbers.row_u8(i, lengths).map_err(|f| f.to_string())?);
                Ok(())
            });
        }
        let bytes = Bytes::new(&column);
        self.each(table, chunk, |i, place| {
            let bytes = bytes.value(i).ok_or_else(|| Fault::Null.to_string())?;
            if *storage == Storage::Pictures {
                return pictures::decode(bytes, &self.input.shape, place);
            }
            if bytes.len() != place.len() {
                let (found, wanted, shape) = (bytes.len(), place.len(), &self.input.shape);
                return Err(format!(
                    "has {found} bytes, where shape {shape:?} takes {wanted}"
                ));
            }
            place.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// Writes rows of floats into their places.
    pub(crate) fn encode_f32(
        &self,
        table: &Table,
        storage: &Storage,
        chunk: Chunk<'_, &mut [f32]>,
    ) -> Result<(), Problems> {
        let Storage::Numbers(lengths) = storage else {
            panic!("floats are stored as numbers")
        };
        let numbers = self.numbers(table, &chunk.column(&self.column))?;
        self.each(table, chunk, |i, place| {
            let values = numbers
                .row_f32(i, lengths)
                .map_err(|fault| fault.to_string())?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let value = values[at];
                return Err(format!("is not finite: element {at} is {value} as f32"));
            }
            place.copy_from_slice(values);
            Ok(())
        })
    }

    fn numbers(&self, table: &Table, column: &ArrayRef) -> Result<Numbers, Problems> {
        Numbers::new(column, self.input.dtype)
            .map_err(|error| Problems::one(table.column_place(&self.column), error.to_string()))
    }

    fn each<T>(
        &self,
        table: &Table,
        chunk: Chunk<'_, &mut [T]>,
        write: impl Fn(usize, &mut [T]) -> Result<(), String>,
    ) -> Result<(), Problems> {
        let mut problems = Problems::new();
        for (i, (row, place)) in chunk.rows.iter().zip(chunk.items).enumerate() {
            if let Err(text) = write(i, place) {
                problems.push(table.row_place(&self.column, *row), text);
            }
        }
        problems.or(())
    }
}

/// How a column is stored, the type of its elements, and the shape of the row looked at.
fn inspect(
    table: &Table,
    column: &str,
    row: u32,
    has_shape: bool,
) -> Result<(Storage, Dtype, Vec<usize>), Problems> {
    let data_type = table.field(column)?.data_type();
    let in_column = |text: String| Problems::one(table.column_place(column), text);
    let in_row = |text: String| Problems::one(table.row_place(column, row), text);
    if let DataType::FixedSizeBinary(length) = data_type {
        let length = usize::try_from(*length).unwrap_or(0);
        return Ok((Storage::Bytes, Dtype::U8, vec![length]));
    }
    if holds_bytes(data_type) {
        let first = table.value(column, row)?;
        let bytes = Bytes::new(&first);
        let bytes = bytes
            .value(0)
            .ok_or_else(|| in_row(Fault::Null.to_string()))?;
        if pictures::is_picture(bytes) {
            let shape = pictures::picture_shape(bytes).map_err(in_row)?;
            return Ok((Storage::Pictures, Dtype::U8, shape.to_vec()));
        }
        if has_shape {
            return Ok((Storage::Bytes, Dtype::U8, vec![bytes.len()]));
        }
        let text = "is neither a JPEG nor a PNG image, and its shape is unknown; give `shape` if \
                    these are the elements";
        return Err(in_row(text.into()));
    }
    let Some(number) = number_type(data_type) else {
        return Err(in_column(format!(
            "holds {data_type}; an input column is of bytes, of images, or of numbers in lists"
        )));
    };
    let dtype = if *number == DataType::UInt8 {
        Dtype::U8
    } else {
        Dtype::F32
    };
    let first = table.value(column, row)?;
    if first.is_null(0) {
        return Err(in_row(Fault::Null.to_string()));
    }
    let numbers = Numbers::new(&first, dtype).map_err(|error| in_row(error.to_string()))?;
    let lengths = numbers.lengths(0);
    let shape = if lengths.is_empty() {
        vec![1]
    } else {
        lengths.clone()
    };
    Ok((Storage::Numbers(lengths), dtype, shape))
}

/// Whether what is stored has as many elements as the shape; an image must have that very shape.
fn check_shape(storage: &Storage, shape: &[usize], stored: &[usize]) -> Result<(), String> {
    if elements(stored).is_none() {
        return Err(format!("has a shape that {}", shape_text(stored)));
    }
    let Some(wanted) = elements(shape) else {
        return Err(format!("has a shape that {}", shape_text(shape)));
    };
    let found: usize = stored.iter().product();
    if *storage == Storage::Pictures && shape != stored {
        return Err(format!(
            "holds images of shape {stored:?}, where shape {shape:?} is given; give the images' own"
        ));
    }
    if found != wanted {
        return Err(format!(
            "holds {found} elements per row, where shape {shape:?} takes {wanted}; give a shape \
             whose product is {found}"
        ));
    }
    Ok(())
}

/// The shape that a field's metadata declares: `shape`, or that of `arrow.fixed_shape_tensor`.
fn declared_shape(field: &Field) -> Result<Option<Vec<usize>>, String> {
    let metadata = field.metadata();
    if let Some(text) = metadata.get("shape") {
        return serde_json::from_str(text).map(Some).map_err(|_| {
            format!("has metadata `shape` {text:?}, which is no JSON list of lengths")
        });
    }
    if metadata.get("ARROW:extension:name").map(String::as_str) != Some("arrow.fixed_shape_tensor")
    {
        return Ok(None);
    }
    let text = metadata
        .get("ARROW:extension:metadata")
        .map_or("", String::as_str);
    let tensor: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    if tensor.get("permutation").is_some_and(|p| !is_identity(p)) {
        return Err("is a tensor with permuted axes; store it row-major".into());
    }
    serde_json::from_value(tensor["shape"].clone())
        .map(Some)
        .map_err(|_| "has tensor metadata without a shape".to_owned())
}

fn is_identity(permutation: &serde_json::Value) -> bool {
    let axes = permutation.as_array().map_or(&[][..], Vec::as_slice);
    axes.iter()
        .zip(0_u64..)
        .all(|(axis, i)| axis.as_u64() == Some(i))
}

fn holds_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Struct(fields) => {
            let bytes = fields.iter().find(|field| field.name() == "bytes");
            bytes.is_some_and(|field| {
                !field.data_type().is_nested() && holds_bytes(field.data_type())
            })
        }
        _ => false,
    }
}

/// Rows of bytes, of equal or differing lengths.
enum Bytes {
    Fixed(FixedSizeBinaryArray),
    Varying {
        values: LargeBinaryArray,
        nulls: Option<NullBuffer>,
    },
}

impl Bytes {
    /// Views a column that is fixed-size binary, or passed [`holds_bytes`].
    fn new(column: &ArrayRef) -> Self {
        if let Some(fixed) = column.as_fixed_size_binary_opt() {
            return Self::Fixed(fixed.clone());
        }
        let values = match column.as_struct_opt() {
            Some(pair) => pair
                .column_by_name("bytes")
                .expect("the column holds bytes")
                .clone(),
            None => column.clone(),
        };
        let values = cast_exactly(&values, &DataType::LargeBinary).expect("bytes are binary");
        let values = values.as_binary::<i64>().clone();
        Self::Varying {
            values,
            nulls: column.nulls().cloned(),
        }
    }

    fn value(&self, i: usize) -> Option<&[u8]> {
        match self {
            Self::Fixed(values) => values.is_valid(i).then(|| values.value(i)),
            Self::Varying { values, nulls } => {
                let is_there = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(i));
                (is_there && values.is_valid(i)).then(|| values.value(i))
            }
        }
    }
}
