//! The columns of a shard, as `arrowhop_types::DataSet` describes them: what is checked before a
//! batch is sent, cached or believed.

use std::collections::BTreeSet;

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrowhop_types::{Problems, ROW};

use crate::transport::BODY_BYTES_MAX;

/// Checks that a schema is what `arrowhop_types::DataSet` says: the rows' numbers, then inputs, then
/// targets.
pub(crate) fn check_schema(schema: &Schema) -> Result<(), Problems> {
    let mut problems = Problems::new();
    let fields = schema.fields();
    let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
    let distinct: BTreeSet<_> = names.iter().collect();
    if names.first() != Some(&ROW) || distinct.len() < names.len() {
        let text = format!("has columns {names:?}, not row and others of distinct names");
        return Err(Problems::one("schema", text));
    }
    if *fields[0].data_type() != DataType::UInt64 {
        problems.push("column row", format!("is {}, not UInt64", fields[0].data_type()));
    }
    let inputs = fields[1..].iter().take_while(|field| is_tensor(field)).count();
    let (inputs, targets) = fields[1..].split_at(inputs);
    if inputs.is_empty() || targets.is_empty() {
        let text = format!(
            "has {} inputs and {} targets, and needs both; inputs have the extension type \
             arrow.fixed_shape_tensor",
            inputs.len(),
            targets.len()
        );
        problems.push("schema", text);
    }
    for x in inputs {
        if !is_list_of(x, &[DataType::UInt8, DataType::Int32, DataType::Float32]) {
            let text =
                format!("is {}, not FixedSizeList of UInt8, Int32 or Float32", x.data_type());
            problems.push(format!("column {}", x.name()), text);
        }
    }
    for y in targets {
        if *y.data_type() != DataType::Int32 && !is_list_of(y, &[DataType::Float32]) {
            let text = format!("is {}, not Int32 or FixedSizeList of Float32", y.data_type());
            problems.push(format!("column {}", y.name()), text);
        }
    }
    for field in fields[1..].iter().filter(|field| field.is_nullable()) {
        problems.push(format!("column {}", field.name()), "is nullable; declare it not null");
    }
    problems.or(())
}

fn is_tensor(field: &Field) -> bool {
    field.extension_type_name() == Some("arrow.fixed_shape_tensor")
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
    row_bytes(schema).saturating_mul(rows).saturating_add(ALIGNMENT * schema.fields().len())
}

/// The bytes of one row's values.
pub(crate) fn row_bytes(schema: &Schema) -> usize {
    let value = |data_type: &DataType| data_type.primitive_width().unwrap_or(0);
    let row = schema.fields().iter().map(|field| match field.data_type() {
        DataType::FixedSizeList(item, width) => {
            usize::try_from(*width).unwrap_or(0) * value(item.data_type())
        }
        data_type => value(data_type),
    });
    row.sum()
}

fn is_list_of(field: &Field, items: &[DataType]) -> bool {
    matches!(
        field.data_type(),
        DataType::FixedSizeList(item, 1..) if items.contains(item.data_type())
    )
}
