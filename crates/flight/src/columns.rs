//! The columns of a shard, as `arrowhop_types::DataSet` describes them: what is checked before a
//! batch is sent, cached or believed.

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrowhop_types::Problems;

use crate::transport::BODY_BYTES_MAX;

/// Checks that a schema is what `arrowhop_types::DataSet` says.
pub(crate) fn check_schema(schema: &Schema) -> Result<(), Problems> {
    let mut problems = Problems::new();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if names != ["row", "x", "y"] {
        return Err(Problems::one("schema", format!("has columns {names:?}, not row, x and y")));
    }
    let [row, x, y] = [0, 1, 2].map(|column| schema.field(column));
    if *row.data_type() != DataType::UInt64 {
        problems.push("column row", format!("is {}, not UInt64", row.data_type()));
    }
    if !is_list_of(x, &[DataType::UInt8, DataType::Float32]) {
        let text = format!("is {}, not FixedSizeList of UInt8 or Float32", x.data_type());
        problems.push("column x", text);
    }
    if x.extension_type_name() != Some("arrow.fixed_shape_tensor") {
        problems.push("column x", "lacks the extension type arrow.fixed_shape_tensor");
    }
    if *y.data_type() != DataType::Int32 && !is_list_of(y, &[DataType::Float32]) {
        let text = format!("is {}, not Int32 or FixedSizeList of Float32", y.data_type());
        problems.push("column y", text);
    }
    for field in [x, y].into_iter().filter(|field| field.is_nullable()) {
        problems.push(format!("column {}", field.name()), "is nullable; declare it not null");
    }
    problems.or(())
}

/// Checks that a batch can be part of a shard with this schema.
pub(crate) fn check_batch(
    schema: &SchemaRef,
    index: usize,
    batch: &RecordBatch,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    if batch.schema_ref() != schema {
        problems.push(format!("batch {index}"), "has another schema than the shard");
    }
    for (column, field) in batch.columns().iter().zip(batch.schema_ref().fields()) {
        let items = column.to_data().child_data().iter().any(|items| items.null_count() > 0);
        if column.null_count() > 0 || items {
            problems.push(format!("batch {index}.{}", field.name()), "has nulls");
        }
    }
    let bytes = body_bytes_max(schema, batch.num_rows());
    if bytes > BODY_BYTES_MAX {
        let text = format!("takes {bytes} bytes; make batches of at most {BODY_BYTES_MAX}");
        problems.push(format!("batch {index}"), text);
    }
    problems.or(())
}

/// The most bytes that the body of a batch can have.
pub(crate) fn body_bytes_max(schema: &Schema, rows: usize) -> usize {
    const ALIGNMENT: usize = 64;
    let value = |data_type: &DataType| data_type.primitive_width().unwrap_or(0);
    let row = schema.fields().iter().map(|field| match field.data_type() {
        DataType::FixedSizeList(item, width) => {
            usize::try_from(*width).unwrap_or(0) * value(item.data_type())
        }
        data_type => value(data_type),
    });
    row.sum::<usize>().saturating_mul(rows).saturating_add(ALIGNMENT * schema.fields().len())
}

fn is_list_of(field: &Field, items: &[DataType]) -> bool {
    matches!(
        field.data_type(),
        DataType::FixedSizeList(item, 1..) if items.contains(item.data_type())
    )
}
