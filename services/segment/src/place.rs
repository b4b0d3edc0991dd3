//! Where this segment's models train: its device, and what of the shards lies in that device's memory.
//!
//! A GPU reads its own memory many times faster than the machine's. A shard's inputs are copied there
//! when the first model of a run comes, and serve all that come after; they go with the run. Where they
//! do not fit, batches are sent one by one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrowhop_flight::{ByteBudget, Reservation};
use arrowhop_train::{Device, Resident, Rows, Task};
use arrowhop_types::Part;
use tracing::warn;

/// A device, and the memory of it that shards may take.
pub(crate) struct Place {
    device: Device,
    budget: Arc<ByteBudget>,
}

/// The copies of one shard's inputs, where they fit.
#[derive(Default)]
pub(crate) struct Copies(Mutex<BTreeMap<Columns, Option<Copied>>>);

/// A part of a shard, and the names of its columns.
type Columns = (Part, Vec<String>);

struct Copied {
    inputs: Arc<Resident>,
    /// Given back with the copy.
    _bytes: Reservation,
}

impl Place {
    pub(crate) fn new(device: Device, memory: u64) -> Self {
        Self { device, budget: ByteBudget::new(memory) }
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// The same rows for the device's models.
    pub(crate) fn bring<'a>(
        &self,
        rows: Rows<'a>,
        part: Part,
        task: &Task,
        copies: &Copies,
    ) -> Rows<'a> {
        if self.device.is_cpu() {
            return rows;
        }
        let columns = task.inputs().iter().map(|input| input.name.clone()).collect();
        let mut copies = copies.0.lock().unwrap_or_else(PoisonError::into_inner);
        let copied = copies.entry((part, columns)).or_insert_with(|| self.copy(&rows));
        let resident = copied.as_ref().map(|copied| Arc::clone(&copied.inputs));
        rows.on(&self.device, resident)
    }

    fn copy(&self, rows: &Rows<'_>) -> Option<Copied> {
        let inputs = rows.inputs();
        match self.budget.reserve(Resident::bytes(inputs)) {
            Ok(bytes) => {
                let inputs = Arc::new(Resident::load(inputs, &self.device));
                Some(Copied { inputs, _bytes: bytes })
            }
            Err(error) => {
                let device = self.device.name();
                warn!(%error, device, "a shard stays in the machine's memory, and is sent in batches");
                None
            }
        }
    }
}
