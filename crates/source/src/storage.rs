//! How a file stores the tensors of one column: found out from its type, its metadata and one row.

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, LargeBinaryArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};
use arrowhop_types::{Dtype, Problems};

use crate::numbers::{Fault, Numbers, cast_exactly, number_type};
use crate::pictures;
use crate::spec::elements;
use crate::table::Table;

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

/// How a column is stored, the type of its elements, and the shape of the row looked at.
pub(crate) fn inspect(
    table: &Table,
    column: &str,
    row: u32,
    declared: Option<&[usize]>,
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
        let bytes = bytes.value(0).ok_or_else(|| in_row(Fault::Null.to_string()))?;
        if pictures::is_picture(bytes) {
            let shape = pictures::picture_shape(bytes).map_err(in_row)?;
            return Ok((Storage::Pictures, Dtype::U8, shape.to_vec()));
        }
        let Some(shape) = declared else {
            let text = "is neither a JPEG nor a PNG image, and its shape is unknown; give `shape` \
                        if these are the elements";
            return Err(in_row(text.into()));
        };
        let (found, wanted) = (bytes.len(), elements(shape).unwrap_or(0));
        if found != wanted {
            return Err(in_row(format!(
                "is neither a JPEG nor a PNG image, and has {found} bytes, where shape {shape:?} \
                 takes {wanted}"
            )));
        }
        return Ok((Storage::Bytes, Dtype::U8, shape.to_vec()));
    }
    let Some(number) = number_type(data_type) else {
        return Err(in_column(format!(
            "holds {data_type}; an input column is of bytes, of images, or of numbers in lists"
        )));
    };
    let dtype = if *number == DataType::UInt8 { Dtype::U8 } else { Dtype::F32 };
    let first = table.value(column, row)?;
    if first.is_null(0) {
        return Err(in_row(Fault::Null.to_string()));
    }
    let numbers = Numbers::new(&first, dtype).map_err(|error| in_row(error.to_string()))?;
    let lengths = numbers.lengths(0);
    let shape = if lengths.is_empty() { vec![1] } else { lengths.clone() };
    Ok((Storage::Numbers(lengths), dtype, shape))
}

/// The shape that a field's metadata declares: `shape`, or that of `arrow.fixed_shape_tensor`.
pub(crate) fn declared_shape(field: &Field) -> Result<Option<Vec<usize>>, String> {
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
    let text = metadata.get("ARROW:extension:metadata").map_or("", String::as_str);
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
    axes.iter().zip(0_u64..).all(|(axis, i)| axis.as_u64() == Some(i))
}

/// Whether values of a type are bytes, alone or beside a path.
pub(crate) fn holds_bytes(data_type: &DataType) -> bool {
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
pub(crate) enum Bytes {
    Fixed(FixedSizeBinaryArray),
    Varying { values: LargeBinaryArray, nulls: Option<NullBuffer> },
}

impl Bytes {
    /// Views a column that is fixed-size binary, or passed [`holds_bytes`].
    pub(crate) fn new(column: &ArrayRef) -> Self {
        if let Some(fixed) = column.as_fixed_size_binary_opt() {
            return Self::Fixed(fixed.clone());
        }
        let values = match column.as_struct_opt() {
            Some(pair) => pair.column_by_name("bytes").expect("the column holds bytes").clone(),
            None => column.clone(),
        };
        let values = cast_exactly(&values, &DataType::LargeBinary).expect("bytes are binary");
        let values = values.as_binary::<i64>().clone();
        Self::Varying { values, nulls: column.nulls().cloned() }
    }

    /// A row's bytes; nothing where it is null.
    pub(crate) fn value(&self, i: usize) -> Option<&[u8]> {
        match self {
            Self::Fixed(values) => values.is_valid(i).then(|| values.value(i)),
            Self::Varying { values, nulls } => {
                let is_there = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(i));
                (is_there && values.is_valid(i)).then(|| values.value(i))
            }
        }
    }
}
