//! From Arrow to the trainer's view of rows: the same memory, never copied.

use std::sync::Arc;

use arrow::array::{Array, FixedSizeListArray, Float32Array, Int32Array, UInt8Array};
use arrow::record_batch::RecordBatch;
use arrowhop_flight::CachedShard;
use arrowhop_train::{InputChunks, Inputs, Rows, TargetChunks, Task};
use arrowhop_types::{Dtype, Problems, Target, TargetColumn};

use crate::place::Copies;

/// One shard's parts, as a run uses them. Holding it keeps them in memory.
#[derive(Clone)]
pub(crate) struct ShardData {
    pub(crate) train: Arc<CachedShard>,
    pub(crate) validation: Option<Arc<CachedShard>>,
    /// What of it lies in the device's memory.
    pub(crate) copies: Arc<Copies>,
}

/// Rows with their targets, as the trainer reads them. The batches are laid out as
/// `arrowhop_types::DataSet` describes.
///
/// # Errors
/// When a column is absent, or not of the task's type.
pub fn rows<'a>(
    task: &Task,
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<Rows<'a>, Problems> {
    let batches: Vec<&RecordBatch> = batches.into_iter().collect();
    let targets = task.targets().iter().map(|TargetColumn { name, target }| match target {
        Target::Classes(_) => {
            let classes = batches
                .iter()
                .map(|batch| Ok(column::<Int32Array>(batch, name)?.values().as_ref()));
            Ok(TargetChunks::Classes(classes.collect::<Result<_, Problems>>()?))
        }
        Target::Values(_) => {
            elements::<Float32Array, _>(&batches, name, |a| a.values()).map(TargetChunks::Values)
        }
    });
    let targets = targets.collect::<Result<_, Problems>>()?;
    Rows::new(task, chunks(task, &batches)?, targets)
}

/// Rows without their targets, as the trainer reads them.
///
/// # Errors
/// As [`rows`].
pub fn inputs<'a>(
    task: &Task,
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<Inputs<'a>, Problems> {
    let batches: Vec<&RecordBatch> = batches.into_iter().collect();
    Inputs::new(task, chunks(task, &batches)?)
}

fn chunks<'a>(task: &Task, batches: &[&'a RecordBatch]) -> Result<Vec<InputChunks<'a>>, Problems> {
    let chunks = task.inputs().iter().map(|input| {
        let name = &input.name;
        Ok(match input.dtype {
            Dtype::U8 => InputChunks::U8(elements::<UInt8Array, _>(batches, name, |a| a.values())?),
            Dtype::I32 => {
                InputChunks::I32(elements::<Int32Array, _>(batches, name, |a| a.values())?)
            }
            Dtype::F32 => {
                InputChunks::F32(elements::<Float32Array, _>(batches, name, |a| a.values())?)
            }
        })
    });
    chunks.collect()
}

/// The values of a fixed-size-list column, batch by batch.
fn elements<'a, A: Array + 'static, T>(
    batches: &[&'a RecordBatch],
    name: &str,
    values: impl Fn(&'a A) -> &'a [T],
) -> Result<Vec<&'a [T]>, Problems> {
    let chunk = |batch: &&'a RecordBatch| {
        let list = column::<FixedSizeListArray>(batch, name)?;
        let items = list.values().as_any().downcast_ref::<A>();
        let items = items.ok_or_else(|| {
            Problems::one(name, format!("holds {}, which the task does not", list.value_type()))
        })?;
        // A batch may be a slice of a longer one.
        let width = usize::try_from(list.value_length()).expect("a list's length is not negative");
        Ok(&values(items)[list.value_offset(0).unsigned_abs() as usize..][..list.len() * width])
    };
    batches.iter().map(chunk).collect()
}

fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A, Problems> {
    let column = batch.column_by_name(name);
    let column = column.ok_or_else(|| Problems::one(name, "the shard has no such column"))?;
    column.as_any().downcast_ref().ok_or_else(|| {
        Problems::one(name, format!("is {}, which the task does not read", column.data_type()))
    })
}
