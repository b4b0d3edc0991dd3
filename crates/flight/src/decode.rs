//! Reads the part of Arrow's IPC format that shards and states are made of, and refuses the rest.
//! Every length and offset of a message is checked against what has arrived before anything is
//! built on it: a hostile message costs no more memory than it has bytes, and ends in an error.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, FixedSizeListArray, PrimitiveArray};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Field, Float32Type, Int32Type, Schema, SchemaRef, UInt8Type, UInt64Type,
};
use arrow::ipc::{self, Endianness, Message, MetadataVersion, Precision, Type, root_as_message};
use arrow::record_batch::RecordBatch;
use arrowhop_types::Problems;

/// A header is a few hundred bytes; a schema's names and metadata may make it some thousands.
const HEADER_BYTES_MAX: usize = 64 << 10;
const COLUMNS_MAX: usize = 16;
/// A list of primitives, not a list of lists.
const NESTING_MAX: usize = 1;

/// Where the parts of a record batch lie within its body; all within bounds, none null.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Rows of the batch.
    pub(crate) rows: usize,
    /// Lengths of the arrays, parents before children.
    pub(crate) lengths: Vec<usize>,
    /// Validity first, then values, for each array that has them.
    pub(crate) buffers: Vec<Range<usize>>,
}

/// Decodes a schema message.
pub(crate) fn decode_schema(header: &[u8]) -> Result<Schema, Problems> {
    guarded("schema", || {
        let message = message("schema", header)?;
        let refuse = |text: &str| Problems::one("schema", text);
        schema_of(message.header_as_schema().ok_or_else(|| refuse("is not the first message"))?)
    })
}

/// Decodes the schema and the places of the batches that a file's footer has.
pub(crate) fn decode_footer(footer: &[u8]) -> Result<(Schema, Vec<ipc::Block>), Problems> {
    guarded("footer", || {
        let refuse = |text: &str| Problems::one("footer", text);
        let footer = ipc::root_as_footer(footer).map_err(|_| refuse("is not one of Arrow IPC"))?;
        let schema = schema_of(footer.schema().ok_or_else(|| refuse("has no schema"))?)?;
        Ok((schema, footer.recordBatches().iter().flatten().copied().collect()))
    })
}

fn schema_of(schema: ipc::Schema<'_>) -> Result<Schema, Problems> {
    let refuse = |text: &str| Problems::one("schema", text);
    if schema.endianness() != Endianness::Little {
        return Err(refuse("is big-endian; send little-endian data"));
    }
    let fields = schema.fields().ok_or_else(|| refuse("has no columns"))?;
    if fields.len() > COLUMNS_MAX {
        return Err(refuse("has more than 16 columns"));
    }
    let fields: Result<Vec<_>, _> =
        fields.iter().map(|field| decode_field(field, NESTING_MAX)).collect();
    Ok(Schema::new_with_metadata(fields?, decode_metadata(schema.custom_metadata())?))
}

fn decode_field(field: ipc::Field<'_>, nesting_left: usize) -> Result<Field, Problems> {
    let name = field.name().unwrap_or_default();
    let refuse = |text: &str| Problems::one(format!("column {name:.100}"), text);
    if field.dictionary().is_some() {
        return Err(refuse("is dictionary-encoded; send plain values"));
    }
    let integer = field.type_as_int().map(|int| (int.bitWidth(), int.is_signed()));
    let precision = field.type_as_floating_point().map(|float| float.precision());
    let data_type = match (field.type_type(), integer, precision) {
        (Type::Int, Some((8, false)), _) => DataType::UInt8,
        (Type::Int, Some((32, true)), _) => DataType::Int32,
        (Type::Int, Some((64, false)), _) => DataType::UInt64,
        (Type::FloatingPoint, _, Some(Precision::SINGLE)) => DataType::Float32,
        (Type::LargeBinary, ..) => DataType::LargeBinary,
        (Type::FixedSizeList, ..) if nesting_left > 0 => {
            let width = field.type_as_fixed_size_list().map_or(0, |list| list.listSize());
            let children = field.children().filter(|children| children.len() == 1);
            let child = children.ok_or_else(|| refuse("is a list without one item field"))?;
            if width <= 0 {
                return Err(refuse("is a list without items"));
            }
            let item = decode_field(child.get(0), nesting_left - 1)?;
            DataType::FixedSizeList(Arc::new(item), width)
        }
        _ => return Err(refuse("has a type that neither shards nor states have")),
    };
    let metadata = decode_metadata(field.custom_metadata())?;
    Ok(Field::new(name, data_type, field.nullable()).with_metadata(metadata))
}

/// Keys and values may overlap in a hostile header, so their sum is bounded too.
fn decode_metadata<'a>(
    pairs: Option<impl IntoIterator<Item = ipc::KeyValue<'a>>>,
) -> Result<HashMap<String, String>, Problems> {
    let mut metadata = HashMap::new();
    let mut bytes = 0;
    for pair in pairs.into_iter().flatten() {
        let (key, value) = (pair.key().unwrap_or_default(), pair.value().unwrap_or_default());
        bytes += key.len() + value.len();
        if bytes > HEADER_BYTES_MAX {
            return Err(Problems::one("schema.metadata", "has more than 64 KiB"));
        }
        metadata.insert(key.to_owned(), value.to_owned());
    }
    Ok(metadata)
}

/// Decodes a record batch's header for a body of `body_bytes` bytes.
pub(crate) fn decode_parts(header: &[u8], body_bytes: usize) -> Result<Parts, Problems> {
    guarded("batch", || {
        let refuse = |text: String| Problems::one("batch", text);
        let message = message("batch", header)?;
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| refuse(format!("is a {:?} message", message.header_type())))?;
        if batch.compression().is_some() {
            return Err(refuse("is compressed; send it uncompressed".into()));
        }
        let mut lengths = Vec::new();
        for node in batch.nodes().into_iter().flatten().take(2 * COLUMNS_MAX) {
            if node.null_count() != 0 {
                return Err(refuse(format!("has {} nulls; there may be none", node.null_count())));
            }
            lengths.push(size(node.length())?);
        }
        let mut buffers = Vec::new();
        for buffer in batch.buffers().into_iter().flatten().take(4 * COLUMNS_MAX) {
            let (offset, length) = (size(buffer.offset())?, size(buffer.length())?);
            let end = offset.checked_add(length).filter(|&end| end <= body_bytes);
            let end = end.ok_or_else(|| refuse("has a buffer outside its body".into()))?;
            buffers.push(offset..end);
        }
        Ok(Parts { rows: size(batch.length())?, lengths, buffers })
    })
}

/// Decodes a record batch over its body, which must be aligned to 8 bytes; nothing is copied.
/// `schema` consists of what [`decode_schema`] admits, without binaries.
pub(crate) fn decode_batch(
    schema: &SchemaRef,
    header: &[u8],
    body: &Buffer,
) -> Result<RecordBatch, Problems> {
    let parts = decode_parts(header, body.len())?;
    guarded("batch", || {
        let refuse = |text: &str| Problems::one("batch", text);
        let mut columns =
            Columns { lengths: parts.lengths.iter(), buffers: parts.buffers.iter(), body };
        let arrays: Result<Vec<_>, _> = schema
            .fields()
            .iter()
            .map(|field| columns.next(field.data_type(), parts.rows))
            .collect();
        let arrays = arrays?;
        if columns.lengths.next().is_some() || columns.buffers.next().is_some() {
            return Err(refuse("has more arrays than the schema has columns"));
        }
        RecordBatch::try_new(Arc::clone(schema), arrays)
            .map_err(|error| refuse(&format!("does not fit the schema: {error}")))
    })
}

/// The arrays of a batch that have not been taken yet.
struct Columns<'a> {
    lengths: std::slice::Iter<'a, usize>,
    buffers: std::slice::Iter<'a, Range<usize>>,
    body: &'a Buffer,
}

impl Columns<'_> {
    fn next(&mut self, data_type: &DataType, rows: usize) -> Result<ArrayRef, Problems> {
        let length = self.lengths.next();
        let validity = self.buffers.next();
        if length != Some(&rows) || validity.is_none() {
            return Err(Problems::one("batch", format!("has no array of {rows} {data_type}")));
        }
        match data_type {
            DataType::UInt8 => self.primitive::<UInt8Type>(rows),
            DataType::Int32 => self.primitive::<Int32Type>(rows),
            DataType::UInt64 => self.primitive::<UInt64Type>(rows),
            DataType::Float32 => self.primitive::<Float32Type>(rows),
            DataType::FixedSizeList(item, width) => {
                let refuse = |text: String| Problems::one(format!("batch.{}", item.name()), text);
                let items = usize::try_from(*width).ok().and_then(|width| rows.checked_mul(width));
                let items = items.ok_or_else(|| refuse("has too many items".into()))?;
                let values = self.next(item.data_type(), items)?;
                FixedSizeListArray::try_new(Arc::clone(item), *width, values, None)
                    .map(|list| Arc::new(list) as ArrayRef)
                    .map_err(|error| refuse(error.to_string()))
            }
            other => Err(Problems::one("batch", format!("has a column of {other}"))),
        }
    }

    fn primitive<T: ArrowPrimitiveType>(&mut self, rows: usize) -> Result<ArrayRef, Problems> {
        let refuse = |text: &str| Problems::one(format!("batch's {}", T::DATA_TYPE), text);
        let buffer = self.buffers.next().ok_or_else(|| refuse("has no values"))?;
        let bytes = rows.checked_mul(size_of::<T::Native>());
        if bytes.is_none_or(|bytes| buffer.len() < bytes) {
            return Err(refuse("has fewer values than rows"));
        }
        if !buffer.start.is_multiple_of(align_of::<T::Native>()) {
            return Err(refuse("is not aligned"));
        }
        let buffer = self.body.slice_with_length(buffer.start, buffer.len());
        let values = ScalarBuffer::<T::Native>::new(buffer, 0, rows);
        Ok(Arc::new(PrimitiveArray::<T>::new(values, None)))
    }
}

pub(crate) fn message<'a>(what: &str, header: &'a [u8]) -> Result<Message<'a>, Problems> {
    let refuse = |text: String| Problems::one(what, text);
    if header.len() > HEADER_BYTES_MAX {
        return Err(refuse(format!("has a header of {} bytes, more than 64 KiB", header.len())));
    }
    let message = root_as_message(header)
        .map_err(|error| refuse(format!("is not an Arrow IPC message: {error}")))?;
    if !matches!(message.version(), MetadataVersion::V4 | MetadataVersion::V5) {
        return Err(refuse("is of an Arrow version before 0.8; use a newer one".into()));
    }
    Ok(message)
}

fn size(value: i64) -> Result<usize, Problems> {
    usize::try_from(value).map_err(|_| Problems::one("batch", format!("has a size of {value}")))
}

/// The last net under the checks above: flatbuffers calls its own verifier experimental.
pub(crate) fn guarded<T>(
    what: &str,
    decode: impl FnOnce() -> Result<T, Problems>,
) -> Result<T, Problems> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(Problems::one(what, "cannot be decoded")))
}
