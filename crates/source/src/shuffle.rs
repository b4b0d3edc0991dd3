//! Puts shards together from shuffled rows: in memory, or, where they are too many for it, in two passes
//! over files. The first decodes the source in its own order; each row goes to the window that its
//! shard's batch is in, so that every window is written from its beginning to its end. The second takes
//! one window after the other into memory, deals its rows out in their shuffled order and writes the
//! shards' files. Each row is written twice and read once from a file, always in stretches of a window.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrowhop_types::{DataSet, InputSpec, Part, Problems, TestRows};

use crate::deal::BatchRows;
use crate::digest::{self, Sum, Tally};
use crate::error::SourceError;
use crate::preparation::Preparation;
use crate::prepare::{Prepared, PreparedShard};
use crate::progress::Stage;
use crate::shard_files::{ShardFiles, open_shards};
use crate::shards::{Buffers, into_batches};
use crate::spec::DataSpec;
use crate::target::Labels;
use crate::workspace::Workspace;

/// So many windows fit into the memory that there is: one is being read, one put together, one written.
const WINDOWS_IN_MEMORY: u64 = 4;

/// Rows that were dealt out, with their labels.
pub(crate) struct Shuffle<'a> {
    pub(crate) spec: &'a DataSpec,
    pub(crate) preparation: &'a Preparation,
    /// The batches of every shard, shard by shard, training before validation.
    pub(crate) batches: &'a [BatchRows],
    /// For each target the labels of the training rows, then those of the validation rows.
    pub(crate) labels: &'a [[&'a Labels; 2]],
    /// The rows that were set aside.
    pub(crate) test: Option<TestRows>,
}

impl Shuffle<'_> {
    /// The shards, and what their inputs sum up to: of training rows, and of validation rows. `fill` decodes
    /// rows into their places, for each input a buffer of each batch.
    pub(crate) fn prepared(
        &self,
        workspace: &Workspace,
        fill: impl FnOnce(&[BatchRows], &mut [Buffers]) -> Result<(), Problems>,
    ) -> Result<(Prepared, [Sum; 2]), SourceError> {
        let inputs = self.preparation.unfilled();
        let rows: u64 = self.batches.iter().map(|batch| batch.rows.len() as u64).sum();
        let row_bytes: u64 = inputs.iter().map(|input| input.bytes() as u64).sum();
        let progress = workspace.progress();
        let decoded = rows * inputs.len() as u64;
        progress.begin(Stage::Shuffling, Some(decoded), row_bytes / inputs.len() as u64);
        match workspace.beyond(rows * row_bytes)? {
            None => {
                let new = |input| Buffers::new(self.batches, input);
                let mut buffers = inputs.iter().map(new).collect::<Result<Vec<_>, _>>()?;
                fill(self.batches, &mut buffers)?;
                progress.begin(Stage::Sharding, Some(rows), row_bytes);
                self.in_memory(buffers, workspace)
            }
            Some((folder, memory)) => {
                let cannot = |source| SourceError::Spill { folder: folder.to_owned(), source };
                let windows = windows(self.batches, row_bytes, memory / WINDOWS_IN_MEMORY);
                let spilled: Vec<_> = windows.iter().map(|window| ascending(window)).collect();
                let new = |input| Buffers::in_files(&spilled, input, folder, workspace);
                let mut buffers = inputs.iter().map(new).collect::<Result<Vec<_>, _>>()?;
                fill(&spilled, &mut buffers)?;
                progress.begin(Stage::Sharding, Some(rows), row_bytes);
                let made = tempfile::Builder::new().prefix(".new-").tempdir_in(folder);
                let made = made.map_err(cannot)?;
                let inputs = self.preparation.inputs(&buffers);
                let mut files = ShardFiles::new(made.path());
                let mut tally = Tally::new(self.spec.shards);
                for (i, (window, rows)) in windows.iter().zip(&spilled).enumerate() {
                    let dealt = buffers.iter_mut();
                    let dealt = dealt.map(|buffers| buffers.deal(i, &rows.rows, window)).collect();
                    let targets = self.preparation.learned();
                    let batches = into_batches(window, &inputs, dealt, &targets, self.labels);
                    self.add(&mut tally, window, &batches, workspace)?;
                    for (of, batch) in window.iter().zip(&batches) {
                        files.push(of.shard, of.part, batch)?;
                    }
                }
                files.finish()?;
                let sums = tally.inputs();
                let data_set = self.data_set(inputs, tally);
                let shards = open_shards(made.path(), &data_set)?;
                let files = Some(Arc::new(made));
                Ok((Prepared { data_set, shards, sources: Vec::new(), files }, sums))
            }
        }
    }

    /// Buffers that hold all rows, as shards.
    fn in_memory(
        &self,
        buffers: Vec<Buffers>,
        workspace: &Workspace,
    ) -> Result<(Prepared, [Sum; 2]), SourceError> {
        let inputs = self.preparation.inputs(&buffers);
        let all: Vec<_> = self.batches.iter().collect();
        let targets = self.preparation.learned();
        let made = into_batches(&all, &inputs, buffers, &targets, self.labels);
        let mut tally = Tally::new(self.spec.shards);
        self.add(&mut tally, &all, &made, workspace)?;
        let mut shards = vec![PreparedShard::default(); self.spec.shards as usize];
        for (rows, batch) in all.into_iter().zip(made) {
            let shard = &mut shards[rows.shard as usize];
            match rows.part {
                Part::Train => shard.train.push(batch),
                Part::Validation => shard.validation.push(batch),
            }
        }
        let sums = tally.inputs();
        let data_set = self.data_set(inputs, tally);
        Ok((Prepared { data_set, shards, sources: Vec::new(), files: None }, sums))
    }

    fn add(
        &self,
        tally: &mut Tally,
        of: &[&BatchRows],
        made: &[RecordBatch],
        workspace: &Workspace,
    ) -> Result<(), SourceError> {
        let batches = of.iter().zip(made).map(|(of, batch)| (of.shard, of.part, batch));
        tally.add(&batches.collect::<Vec<_>>(), self.preparation.encoders.len());
        workspace.progress().add_rows(of.iter().map(|batch| batch.rows.len() as u64).sum())
    }

    /// What was made, by name and digests.
    fn data_set(&self, inputs: Vec<InputSpec>, tally: Tally) -> DataSet {
        let (shards, rows_digest) = tally.finish();
        let preparation = self.preparation.to_text();
        DataSet {
            id: digest::data_set_id(&preparation, &shards, self.test.as_ref()),
            name: self.spec.name.clone(),
            inputs,
            targets: self.preparation.learned(),
            shards,
            test: self.test.clone(),
            rows_digest,
            preparation,
        }
    }
}

/// Batches in windows of at most so many bytes, each of at least one batch and of one part: all training
/// rows come before all validation rows, and of each part the shards in their order.
fn windows(batches: &[BatchRows], row_bytes: u64, bytes_max: u64) -> Vec<Vec<&BatchRows>> {
    let mut windows: Vec<Vec<&BatchRows>> = Vec::new();
    for part in [Part::Train, Part::Validation] {
        let mut room = 0;
        for batch in batches.iter().filter(|batch| batch.part == part) {
            let bytes = batch.rows.len() as u64 * row_bytes;
            match windows.last_mut().filter(|_| bytes <= room) {
                Some(window) => window.push(batch),
                None => {
                    windows.push(vec![batch]);
                    room = bytes_max;
                }
            }
            room = room.saturating_sub(bytes);
        }
    }
    windows
}

/// All rows of a window, in the source's order.
fn ascending(window: &[&BatchRows]) -> BatchRows {
    let mut rows: Vec<u32> = window.iter().flat_map(|batch| batch.rows.iter().copied()).collect();
    rows.sort_unstable();
    BatchRows { shard: window[0].shard, part: window[0].part, rows }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use arrow::array::{Float64Array, Int32Array, StringArray};

    use super::*;
    use crate::fixtures::{column, file_spec, generated_spec, tensor, write};
    use crate::spec::{Inputs, Scale, TableInputs};
    use crate::{DataSpec, SourceError, prepare, prepare_within};

    fn batch(shard: u32, part: Part, rows: u32) -> BatchRows {
        BatchRows { shard, part, rows: (0..rows).collect() }
    }

    #[test]
    fn windows_hold_batches_of_one_part_in_the_shards_order() {
        let batches = [
            batch(0, Part::Train, 3),
            batch(0, Part::Train, 2),
            batch(0, Part::Validation, 1),
            batch(1, Part::Train, 9),
            batch(1, Part::Validation, 1),
        ];
        let windows = windows(&batches, 10, 55);
        let shown: Vec<Vec<_>> = windows
            .iter()
            .map(|window| window.iter().map(|batch| (batch.shard, batch.rows.len())).collect())
            .collect();
        assert_eq!(shown, [vec![(0, 3), (0, 2)], vec![(1, 9)], vec![(0, 1), (1, 1)]]);
    }

    /// The same data set, prepared in memory and in windows of a few batches, and kept.
    fn compare(spec: &DataSpec, memory: u64) {
        let folder = tempfile::tempdir().unwrap();
        let within = prepare(spec).unwrap();
        let workspace = Workspace::bounded(memory, folder.path());
        let beyond = prepare_within(spec, &workspace).unwrap();
        assert!(beyond.files.is_some() && within.files.is_none());
        assert_eq!(beyond.data_set, within.data_set);
        assert_eq!(beyond.shards, within.shards);
        let rows = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(rows, 1, "files beyond memory have no names but the shards' folder");

        let kept = beyond.clone().keep(folder.path(), &[("name", b"n".to_vec())]);
        drop(beyond);
        let kept_folder = folder.path().join(within.data_set.id.to_string());
        assert_eq!(fs::read(kept_folder.join("name")).unwrap(), b"n");
        assert_eq!(kept.unwrap().shards, within.shards);
        let again = Prepared::open(&kept_folder, within.data_set.clone()).unwrap();
        assert_eq!(again.shards, within.shards);
        let once_more = within.clone().keep(folder.path(), &[]).unwrap();
        assert_eq!(once_more.shards, within.shards);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        fs::remove_file(kept_folder.join("00000-train.arrow")).unwrap();
        let error = Prepared::open(&kept_folder, within.data_set).unwrap_err();
        assert!(error.to_string().ends_with("00000-train.arrow"), "{error}");
    }

    #[test]
    fn rows_beyond_memory_make_the_same_shards() {
        let folder = tempfile::tempdir().unwrap();
        let rows = 4_000;
        let words = ["ant", "bee", "cat"];
        let names = StringArray::from_iter_values((0..rows).map(|row| words[row % 3]));
        let numbers = Float64Array::from_iter_values((0..4_000).map(|row| f64::from(row) / 7.0));
        let y = Int32Array::from_iter_values((0..4_000).map(|row| row % 5));
        let columns = [column("a", names), column("b", numbers), column("y", y)];
        let path = write(folder.path(), "t", &columns);
        let table =
            Inputs::Table(TableInputs { scale: Scale::Standardise, ..TableInputs::default() });
        let spec =
            DataSpec { shards: 3, validation_fraction: Some(0.25), ..file_spec(&path, table) };
        compare(&spec, 20_000);
        compare(&spec, 1);
        let generated = DataSpec { shards: 5, ..generated_spec(3_000, 700) };
        compare(&generated, 300_000);
    }

    #[test]
    fn a_preparation_that_is_stopped_ends_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let x = column("x", Float64Array::from_iter_values((0..300).map(f64::from)));
        let y = column("y", Int32Array::from_iter_values(0..300));
        let spec = file_spec(&write(folder.path(), "t", &[x, y]), tensor());
        let spill = folder.path().join("spill");
        let workspace = Workspace::bounded(10, &spill);
        workspace.progress().stop();
        let error = prepare_within(&spec, &workspace).unwrap_err();
        assert!(matches!(error, SourceError::Stopped), "{error}");
        assert!(!spill.exists());
    }
}
