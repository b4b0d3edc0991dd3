//! The record batches of a shard: their schema, the slots that rows are decoded into, and how
//! filled slots become Arrow arrays without a copy. The layout is that of `arrowhop_types::data`.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, FixedSizeListArray, Float32Array, Int32Array, PrimitiveArray,
    RecordBatch, UInt64Array,
};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Field, Float32Type, Int32Type, Schema, SchemaRef, UInt8Type,
};
use arrowhop_mapped::Scratch;
use arrowhop_types::{Dtype, InputSpec, Part, ROW, Target, TargetColumn};
use bytemuck::Pod;
use bytes::Bytes;

use crate::classes::INDEXED;
use crate::deal::BatchRows;
use crate::error::SourceError;
use crate::parallel;
use crate::target::Labels;
use crate::workspace::Workspace;

/// A batch's inputs together fill about this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// A batch has at most this many rows.
const BATCH_ROWS_MAX: usize = 1 << 16;

/// One input of all batches, one block each, to be filled row by row.
pub(crate) enum Buffers {
    U8(Vec<Block<u8>>),
    I32(Vec<Block<i32>>),
    F32(Vec<Block<f32>>),
}

/// One input of one batch.
pub(crate) enum Block<T> {
    Memory(Vec<T>),
    /// Of a batch that is too large for memory.
    File(Scratch),
}

impl<T: Pod> Deref for Block<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Memory(values) => values,
            Self::File(scratch) => bytemuck::cast_slice(scratch),
        }
    }
}

impl<T: Pod> DerefMut for Block<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Memory(values) => values,
            Self::File(scratch) => bytemuck::cast_slice_mut(scratch),
        }
    }
}

impl<T: ArrowNativeType> Block<T> {
    fn into_values(self) -> ScalarBuffer<T> {
        match self {
            Self::Memory(values) => values.into(),
            Self::File(scratch) => Buffer::from(Bytes::from_owner(scratch)).into(),
        }
    }
}

/// The schema of a shard's batches; without `targets` that of new rows, which have none.
#[must_use]
pub fn shard_schema(inputs: &[InputSpec], targets: &[TargetColumn]) -> SchemaRef {
    let mut fields = vec![Field::new(ROW, DataType::UInt64, false)];
    fields.extend(inputs.iter().map(input_field));
    fields.extend(targets.iter().map(target_field));
    Arc::new(Schema::new(fields))
}

fn input_field(input: &InputSpec) -> Field {
    let element = match input.dtype {
        Dtype::U8 => DataType::UInt8,
        Dtype::I32 => DataType::Int32,
        Dtype::F32 => DataType::Float32,
    };
    let field = Field::new(&input.name, list_of(element, input.elements()), false);
    field.with_metadata(tensor_metadata(&input.shape))
}

/// What makes a field of lists one of tensors of this shape (`arrow.fixed_shape_tensor`).
pub(crate) fn tensor_metadata(shape: &[usize]) -> HashMap<String, String> {
    let shape = serde_json::json!({ "shape": shape }).to_string();
    extension("arrow.fixed_shape_tensor", shape)
}

/// The metadata of a field of an extension type.
pub(crate) fn extension(name: &str, metadata: String) -> HashMap<String, String> {
    [
        ("ARROW:extension:name".to_owned(), name.to_owned()),
        ("ARROW:extension:metadata".to_owned(), metadata),
    ]
    .into()
}

fn target_field(TargetColumn { name, target }: &TargetColumn) -> Field {
    match target {
        Target::Classes(list) => {
            let names = serde_json::json!(list.names()).to_string();
            Field::new(name, DataType::Int32, false)
                .with_metadata([(INDEXED.to_owned(), names)].into())
        }
        Target::Values(width) => Field::new(name, list_of(DataType::Float32, *width), false),
    }
}

/// Lists of so many elements.
pub(crate) fn list_of(element: DataType, length: usize) -> DataType {
    DataType::FixedSizeList(element_field(element), list_length(length))
}

fn element_field(element: DataType) -> Arc<Field> {
    Arc::new(Field::new_list_field(element, true))
}

fn list_length(length: usize) -> i32 {
    i32::try_from(length).expect("an example has at most 2^24 elements")
}

/// Rows per batch for examples of this form.
pub(crate) fn batch_rows(inputs: &[InputSpec]) -> usize {
    let bytes: usize = inputs.iter().map(InputSpec::bytes).sum();
    (BATCH_BYTES / bytes).clamp(1, BATCH_ROWS_MAX)
}

/// Filled buffers as record batches of these inputs, each with the labels of its rows if there are
/// any: for each target those of the training rows, then those of the validation rows, by row
/// number.
pub(crate) fn into_batches(
    batches: &[&BatchRows],
    inputs: &[InputSpec],
    buffers: Vec<Buffers>,
    targets: &[TargetColumn],
    labels: &[[&Labels; 2]],
) -> Vec<RecordBatch> {
    let schema = shard_schema(inputs, targets);
    let mut columns: Vec<Vec<ArrayRef>> = batches
        .iter()
        .map(|batch| {
            let rows = batch.rows.iter().copied().map(u64::from);
            vec![Arc::new(UInt64Array::from_iter_values(rows)) as ArrayRef]
        })
        .collect();
    for (input, buffers) in inputs.iter().zip(buffers) {
        for (columns, values) in columns.iter_mut().zip(buffers.into_arrays()) {
            let element = element_field(values.data_type().clone());
            let length = list_length(input.elements());
            columns.push(Arc::new(FixedSizeListArray::new(element, length, values, None)));
        }
    }
    let labelled = batches.iter().zip(columns).map(|(batch, mut columns)| {
        let part = usize::from(batch.part == Part::Validation);
        columns.extend(labels.iter().map(|of| of[part].take(&batch.rows)));
        RecordBatch::try_new(schema.clone(), columns).expect("columns are made to fit the schema")
    });
    labelled.collect()
}

impl Buffers {
    /// Zeroed buffers for these batches.
    pub(crate) fn new(batches: &[BatchRows], input: &InputSpec) -> Result<Self, SourceError> {
        let rows: u64 = batches.iter().map(|batch| batch.rows.len() as u64).sum();
        let bytes = rows * input.bytes() as u64;
        let width = input.elements();
        let buffers = match input.dtype {
            Dtype::U8 => zeroed(batches, width).map(Self::U8),
            Dtype::I32 => zeroed(batches, width).map(Self::I32),
            Dtype::F32 => zeroed(batches, width).map(Self::F32),
        };
        buffers.ok_or(SourceError::Memory { bytes })
    }

    /// One more than the largest whole number in them.
    pub(crate) fn vocabulary(&self) -> u32 {
        let Self::I32(buffers) = self else { return 0 };
        let largest = buffers.iter().flat_map(|block| block.iter()).max();
        largest.map_or(0, |&largest| u32::try_from(largest).map_or(0, |largest| largest + 1))
    }

    /// Room for these batches in files of a folder.
    pub(crate) fn in_files(
        batches: &[BatchRows],
        input: &InputSpec,
        folder: &Path,
        workspace: &Workspace,
    ) -> Result<Self, SourceError> {
        fn blocks<T>(files: Vec<Scratch>) -> Vec<Block<T>> {
            files.into_iter().map(Block::File).collect()
        }
        let file = |batch: &BatchRows| {
            workspace.scratch(folder, batch.rows.len().saturating_mul(input.bytes()))
        };
        let files = batches.iter().map(file).collect::<Result<Vec<_>, _>>()?;
        Ok(match input.dtype {
            Dtype::U8 => Self::U8(blocks(files)),
            Dtype::I32 => Self::I32(blocks(files)),
            Dtype::F32 => Self::F32(blocks(files)),
        })
    }

    /// Takes the rows of these batches out of one of the blocks, which has those of `rows`, ascending.
    /// The block is given back.
    pub(crate) fn deal(&mut self, block: usize, rows: &[u32], batches: &[&BatchRows]) -> Self {
        fn of<T: Pod + Send + Sync>(
            blocks: &mut [Block<T>],
            block: usize,
            rows: &[u32],
            batches: &[&BatchRows],
        ) -> Vec<Block<T>> {
            let from = std::mem::replace(&mut blocks[block], Block::Memory(Vec::new()));
            let width = from.len() / rows.len();
            parallel::map(batches, |batch| {
                let mut values = Vec::with_capacity(batch.rows.len() * width);
                for row in &batch.rows {
                    let place = rows.binary_search(row).expect("a block has its batches' rows");
                    values.extend_from_slice(&from[place * width..(place + 1) * width]);
                }
                Block::Memory(values)
            })
        }
        match self {
            Self::U8(blocks) => Self::U8(of(blocks, block, rows, batches)),
            Self::I32(blocks) => Self::I32(of(blocks, block, rows, batches)),
            Self::F32(blocks) => Self::F32(of(blocks, block, rows, batches)),
        }
    }

    fn into_arrays(self) -> Vec<ArrayRef> {
        fn arrays<T: ArrowPrimitiveType>(blocks: Vec<Block<T::Native>>) -> Vec<ArrayRef> {
            let array = |block: Block<_>| {
                Arc::new(PrimitiveArray::<T>::new(block.into_values(), None)) as ArrayRef
            };
            blocks.into_iter().map(array).collect()
        }
        match self {
            Self::U8(blocks) => arrays::<UInt8Type>(blocks),
            Self::I32(blocks) => arrays::<Int32Type>(blocks),
            Self::F32(blocks) => arrays::<Float32Type>(blocks),
        }
    }
}

fn zeroed<T: Clone + Default>(batches: &[BatchRows], width: usize) -> Option<Vec<Block<T>>> {
    let mut blocks = Vec::new();
    for batch in batches {
        let elements = batch.rows.len().checked_mul(width)?;
        let mut values = Vec::new();
        values.try_reserve_exact(elements).ok()?;
        values.resize(elements, T::default());
        blocks.push(Block::Memory(values));
    }
    Some(blocks)
}

/// The rows of these parts in ascending order, each with its place in the buffers.
pub(crate) fn slots<'a, T: Pod>(
    batches: &[BatchRows],
    blocks: &'a mut [Block<T>],
    width: usize,
    parts: &[Part],
) -> (Vec<u32>, Vec<&'a mut [T]>) {
    let mut slots: Vec<(u32, &mut [T])> = batches
        .iter()
        .zip(blocks)
        .filter(|(batch, _)| parts.contains(&batch.part))
        .flat_map(|(batch, block)| batch.rows.iter().copied().zip(block.chunks_exact_mut(width)))
        .collect();
    slots.sort_unstable_by_key(|(row, _)| *row);
    slots.into_iter().unzip()
}

impl Labels {
    /// The labels of these rows, as a shard's column.
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
    use arrowhop_types::ClassList;

    use super::*;

    fn batch(part: Part, rows: &[u32]) -> BatchRows {
        BatchRows { shard: 0, part, rows: rows.to_vec() }
    }

    #[test]
    fn rows_are_written_through_slots_in_source_order_and_stay_in_shuffled_order() {
        let input = InputSpec::numbers(vec![2], Dtype::F32, 1.0);
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
        let target = TargetColumn::only(Target::Classes(ClassList::named(["a", "b"])));
        let (train, validation) = (Labels::Classes(vec![0, 1, 0, 1, 0]), Labels::Classes(vec![1]));
        let buffers = vec![Buffers::F32(buffers)];
        let all: Vec<_> = batches.iter().collect();
        let made = into_batches(&all, &[input], buffers, &[target], &[[&train, &validation]]);
        let x = made[0].column(1).as_fixed_size_list().values().clone();
        assert_eq!(x.as_primitive::<Float32Type>().values().as_ref(), [4.0, 4.0, 1.0, 1.0]);
        assert_eq!(made[0].column(2).as_primitive::<Int32Type>().values().as_ref(), [0, 1]);
        assert_eq!(made[2].column(2).as_primitive::<Int32Type>().values().as_ref(), [1]);
    }

    #[test]
    fn fields_say_what_they_are() {
        let inputs = [InputSpec::numbers(vec![28, 28, 1], Dtype::U8, 255.0)];
        let target = TargetColumn::only(Target::Classes(ClassList::named(["a\""])));
        let schema = shard_schema(&inputs, &[target]);
        let x = schema.field(1).metadata();
        assert_eq!(x["ARROW:extension:name"], "arrow.fixed_shape_tensor");
        assert_eq!(x["ARROW:extension:metadata"], r#"{"shape":[28,28,1]}"#);
        assert_eq!(schema.field(2).metadata()["classes"], r#"["a\""]"#);
        assert_eq!(shard_schema(&inputs, &[]).fields().len(), 2);
        assert_eq!(batch_rows(&inputs), 1_337);
    }
}
