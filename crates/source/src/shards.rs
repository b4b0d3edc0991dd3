//! The record batches of a shard: their schema, the slots that rows are decoded into, and how
//! filled slots become Arrow arrays without a copy. The layout is that of `arrowhop_types::data`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int32Array, RecordBatch, UInt8Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrowhop_types::{Dtype, InputSpec, Part, Target};

use crate::deal::BatchRows;
use crate::error::SourceError;
use crate::target::Labels;

/// A batch's inputs fill about this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// A batch has at most this many rows.
const BATCH_ROWS_MAX: usize = 1 << 16;

/// The inputs of all batches, one buffer each, to be filled row by row.
pub(crate) enum Buffers {
    U8(Vec<Vec<u8>>),
    F32(Vec<Vec<f32>>),
}

/// The schema of a shard's batches; without `target` that of new rows, which have no `y`.
#[must_use]
pub fn shard_schema(input: &InputSpec, target: Option<&Target>) -> SchemaRef {
    let element = match input.dtype {
        Dtype::U8 => DataType::UInt8,
        Dtype::F32 => DataType::Float32,
    };
    let shape = serde_json::json!({ "shape": input.shape }).to_string();
    let x = Field::new("x", list_of(element, input.elements()), false).with_metadata(
        [
            ("ARROW:extension:name".to_owned(), "arrow.fixed_shape_tensor".to_owned()),
            ("ARROW:extension:metadata".to_owned(), shape),
        ]
        .into(),
    );
    let mut fields = vec![Field::new("row", DataType::UInt64, false), x];
    match target {
        Some(Target::Classes(names)) => {
            let names = serde_json::Value::from(names.as_slice()).to_string();
            fields.push(
                Field::new("y", DataType::Int32, false)
                    .with_metadata([("classes".to_owned(), names)].into()),
            );
        }
        Some(Target::Values(width)) => {
            fields.push(Field::new("y", list_of(DataType::Float32, *width), false));
        }
        None => {}
    }
    Arc::new(Schema::new(fields))
}

fn list_of(element: DataType, length: usize) -> DataType {
    DataType::FixedSizeList(element_field(element), list_length(length))
}

fn element_field(element: DataType) -> Arc<Field> {
    Arc::new(Field::new_list_field(element, true))
}

fn list_length(length: usize) -> i32 {
    i32::try_from(length).expect("an example has at most 2^24 elements")
}

/// Rows per batch for examples of this form.
pub(crate) fn batch_rows(input: &InputSpec) -> usize {
    (BATCH_BYTES / (input.elements() * input.dtype.bytes())).clamp(1, BATCH_ROWS_MAX)
}

impl Buffers {
    /// Zeroed buffers for these batches.
    pub(crate) fn new(batches: &[BatchRows], input: &InputSpec) -> Result<Self, SourceError> {
        let rows: u64 = batches.iter().map(|batch| batch.rows.len() as u64).sum();
        let bytes = rows * (input.elements() * input.dtype.bytes()) as u64;
        let width = input.elements();
        let buffers = match input.dtype {
            Dtype::U8 => zeroed(batches, width).map(Self::U8),
            Dtype::F32 => zeroed(batches, width).map(Self::F32),
        };
        buffers.ok_or(SourceError::Memory { bytes })
    }

    /// The filled buffers as record batches, each with the labels of its rows if there are any:
    /// those of the training rows, then those of the validation rows, by row number.
    pub(crate) fn into_batches(
        self,
        batches: &[BatchRows],
        input: &InputSpec,
        labelled: Option<(&Target, [&Labels; 2])>,
    ) -> Vec<RecordBatch> {
        let inputs: Vec<ArrayRef> = match self {
            Self::U8(buffers) => buffers
                .into_iter()
                .map(|buffer| Arc::new(UInt8Array::new(buffer.into(), None)) as ArrayRef)
                .collect(),
            Self::F32(buffers) => buffers
                .into_iter()
                .map(|buffer| Arc::new(Float32Array::new(buffer.into(), None)) as ArrayRef)
                .collect(),
        };
        let schema = shard_schema(input, labelled.map(|(target, _)| target));
        batches
            .iter()
            .zip(inputs)
            .map(|(batch, x)| {
                let rows = batch.rows.iter().copied().map(u64::from);
                let element = element_field(x.data_type().clone());
                let x = FixedSizeListArray::new(element, list_length(input.elements()), x, None);
                let mut columns: Vec<ArrayRef> =
                    vec![Arc::new(UInt64Array::from_iter_values(rows)), Arc::new(x)];
                if let Some((_, labels)) = labelled {
                    let labels = labels[usize::from(batch.part == Part::Validation)];
                    columns.push(labels.take(&batch.rows));
                }
                RecordBatch::try_new(schema.clone(), columns)
                    .expect("columns are made to fit the schema")
            })
            .collect()
    }
}

fn zeroed<T: Clone + Default>(batches: &[BatchRows], width: usize) -> Option<Vec<Vec<T>>> {
    let mut buffers = Vec::new();
    for batch in batches {
        let elements = batch.rows.len().checked_mul(width)?;
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(elements).ok()?;
        buffer.resize(elements, T::default());
        buffers.push(buffer);
    }
    Some(buffers)
}

/// The rows of these parts in ascending order, each with its place in the buffers.
pub(crate) fn slots<'a, T>(
    batches: &[BatchRows],
    buffers: &'a mut [Vec<T>],
    width: usize,
    parts: &[Part],
) -> (Vec<u32>, Vec<&'a mut [T]>) {
    let mut slots: Vec<(u32, &mut [T])> = batches
        .iter()
        .zip(buffers)
        .filter(|(batch, _)| parts.contains(&batch.part))
        .flat_map(|(batch, buffer)| batch.rows.iter().copied().zip(buffer.chunks_exact_mut(width)))
        .collect();
    slots.sort_unstable_by_key(|(row, _)| *row);
    slots.into_iter().unzip()
}

impl Labels {
    /// The labels of these rows, as `y`.
    fn take(&self, rows: &[u32]) -> ArrayRef {
        match self {
            Self::Classes(classes) => Arc::new(Int32Array::from_iter_values(
                rows.iter().map(|&row| classes[row as usize]),
            )),
            Self::Values { width, values } => {
                let taken: Vec<f32> = rows
                    .iter()
                    .flat_map(|&row| &values[row as usize * width..(row as usize + 1) * width])
                    .copied()
                    .collect();
                let taken = Arc::new(Float32Array::new(taken.into(), None));
                let element = element_field(DataType::Float32);
                Arc::new(FixedSizeListArray::new(element, list_length(*width), taken, None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float32Type, Int32Type};

    use super::*;

    fn batch(part: Part, rows: &[u32]) -> BatchRows {
        BatchRows { shard: 0, part, rows: rows.to_vec() }
    }

    #[test]
    fn rows_are_written_through_slots_in_source_order_and_stay_in_shuffled_order() {
        let input = InputSpec { shape: vec![2], dtype: Dtype::F32, normalize: 1.0 };
        let batches =
            [batch(Part::Train, &[4, 1]), batch(Part::Train, &[3]), batch(Part::Validation, &[0])];
        let Buffers::F32(mut buffers) = Buffers::new(&batches, &input).unwrap() else {
            panic!("floats have float buffers")
        };
        let (rows, slots) = slots(&batches, &mut buffers, 2, &[Part::Train]);
        assert_eq!(rows, [1, 3, 4]);
        for (row, slot) in rows.iter().zip(slots) {
            slot.fill(f32::from(u8::try_from(*row).unwrap()));
        }
        let target = Target::Classes(vec!["a".into(), "b".into()]);
        let (train, validation) = (Labels::Classes(vec![0, 1, 0, 1, 0]), Labels::Classes(vec![1]));
        let made = Buffers::F32(buffers).into_batches(
            &batches,
            &input,
            Some((&target, [&train, &validation])),
        );
        let x = made[0].column(1).as_fixed_size_list().values().clone();
        assert_eq!(x.as_primitive::<Float32Type>().values().as_ref(), [4.0, 4.0, 1.0, 1.0]);
        assert_eq!(made[0].column(2).as_primitive::<Int32Type>().values().as_ref(), [0, 1]);
        assert_eq!(made[2].column(2).as_primitive::<Int32Type>().values().as_ref(), [1]);
    }

    #[test]
    fn fields_say_what_they_are() {
        let input = InputSpec { shape: vec![28, 28, 1], dtype: Dtype::U8, normalize: 255.0 };
        let schema = shard_schema(&input, Some(&Target::Classes(vec!["a\"".into()])));
        let x = schema.field(1).metadata();
        assert_eq!(x["ARROW:extension:name"], "arrow.fixed_shape_tensor");
        assert_eq!(x["ARROW:extension:metadata"], r#"{"shape":[28,28,1]}"#);
        assert_eq!(schema.field(2).metadata()["classes"], r#"["a\""]"#);
        assert_eq!(shard_schema(&input, None).fields().len(), 2);
        assert_eq!(batch_rows(&input), 1_337);
    }
}
