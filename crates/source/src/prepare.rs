//! Prepares a data set: from a specification to shards in memory.

use std::path::Path;

use arrow::array::RecordBatch;
use arrowhop_types::{DataSet, Part, Problems, ShardId, ShardInfo, Target};

use crate::deal::{BatchRows, Deal};
use crate::digest;
use crate::encoder::Encoder;
use crate::error::{SourceError, gather};
use crate::preparation::Preparation;
use crate::shapes::Shapes;
use crate::shards::{Buffers, batch_rows};
use crate::spec::{DataSpec, Generator, Inputs, Origin, TargetSpec};
use crate::table::Table;
use crate::target::{Labels, TargetEncoder};

/// A data set and its shards.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What it is.
    pub data_set: DataSet,
    /// Its rows, by shard number.
    pub shards: Vec<PreparedShard>,
}

/// The rows of one shard, as `arrowhop_types::data` lays them out.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedShard {
    /// Training rows.
    pub train: Vec<RecordBatch>,
    /// Validation rows.
    pub validation: Vec<RecordBatch>,
}

/// Prepares a data set. The same specification and files give the same bits, on any machine.
///
/// # Errors
/// [`SourceError::Input`] with everything that is wrong with the specification or the files;
/// [`SourceError::Memory`] where the rows do not fit.
pub fn prepare(spec: &DataSpec) -> Result<Prepared, SourceError> {
    spec.check()?;
    match &spec.origin {
        Origin::Parquet { train, validation, inputs, target } => {
            prepare_files(spec, train, validation.as_deref(), inputs, target)
        }
        Origin::Generated(generator) => prepare_generated(spec, generator),
    }
}

fn prepare_files(
    spec: &DataSpec,
    train: &Path,
    validation: Option<&Path>,
    inputs: &Inputs,
    target: &TargetSpec,
) -> Result<Prepared, SourceError> {
    let mut problems = Problems::new();
    let train = gather(&mut problems, Table::open(train));
    let validation = validation.map(|path| gather(&mut problems, Table::open(path)));
    problems.or(())?;
    let train = train.expect("it opened without a problem");
    let validation = validation.flatten();

    let mut problems = Problems::new();
    let validation_rows = validation.as_ref().map(Table::rows);
    let deal = gather(&mut problems, Deal::new(spec, train.rows(), validation_rows));
    let encoder = deal.as_ref().and_then(|deal| {
        let encoder = Encoder::resolve(&train, inputs, &target.column, &deal.candidates);
        gather(&mut problems, encoder)
    });
    let target = gather(&mut problems, TargetEncoder::resolve(&train, target));
    let (Some(deal), Some(encoder), Some(target)) = (deal, encoder, target) else {
        return Err(problems.into());
    };

    let input = encoder.input();
    let batches = deal.batches(batch_rows(&input));
    let mut buffers = Buffers::new(&batches, &input)?;
    let mut problems = Problems::new();
    let train_labels = gather(&mut problems, target.labels(&train, train.rows()));
    let mut own_labels = None;
    let mut train_parts = [Part::Train, Part::Validation].as_slice();
    if let Some(validation) = &validation {
        train_parts = &[Part::Train];
        own_labels = gather(&mut problems, target.labels(validation, validation.rows()));
        let filled = encoder.fill(validation, &batches, &mut buffers, &[Part::Validation]);
        gather(&mut problems, filled);
    }
    gather(&mut problems, encoder.fill(&train, &batches, &mut buffers, train_parts));
    problems.or(())?;
    let train_labels = train_labels.expect("all labels were read without a problem");
    let labels = [&train_labels, own_labels.as_ref().unwrap_or(&train_labels)];
    Ok(assemble(spec, &Preparation { encoder, target }, &batches, buffers, labels))
}

fn prepare_generated(spec: &DataSpec, generator: &Generator) -> Result<Prepared, SourceError> {
    let Generator::Shapes { rows, validation_rows } = *generator;
    let shapes = Shapes::new(spec.seed);
    let counts = Shapes::row_counts(rows, validation_rows)?;
    let deal = Deal::new(spec, counts.0, (counts.1 > 0).then_some(counts.1))?;
    let preparation = Shapes::preparation();
    let input = preparation.encoder.input();
    let batches = deal.batches(batch_rows(&input));
    let mut buffers = Buffers::new(&batches, &input)?;
    shapes.fill(&batches, &mut buffers, Part::Train, Part::Train);
    // Validation rows that were split off are training rows of the generator.
    let source = if counts.1 > 0 { Part::Validation } else { Part::Train };
    shapes.fill(&batches, &mut buffers, Part::Validation, source);
    let labels = Shapes::labels(counts.0.max(counts.1));
    Ok(assemble(spec, &preparation, &batches, buffers, [&labels, &labels]))
}

/// Filled buffers as shards, with digests and a name.
fn assemble(
    spec: &DataSpec,
    preparation: &Preparation,
    batches: &[BatchRows],
    buffers: Buffers,
    labels: [&Labels; 2],
) -> Prepared {
    let input = preparation.encoder.input();
    let target: Target = preparation.target.target.clone();
    let mut shards: Vec<PreparedShard> = (0..spec.shards)
        .map(|_| PreparedShard { train: Vec::new(), validation: Vec::new() })
        .collect();
    let made = buffers.into_batches(batches, &input, Some((&target, labels)));
    for (rows, batch) in batches.iter().zip(made) {
        let shard = &mut shards[rows.shard as usize];
        match rows.part {
            Part::Train => shard.train.push(batch),
            Part::Validation => shard.validation.push(batch),
        }
    }
    let rows = |batches: &[RecordBatch]| batches.iter().map(|b| b.num_rows() as u64).sum();
    let digests: Vec<_> =
        shards.iter().map(|shard| digest::digests(&shard.train, &shard.validation)).collect();
    let infos: Vec<ShardInfo> = (0..)
        .map(ShardId)
        .zip(shards.iter().zip(&digests))
        .map(|(id, (shard, digests))| ShardInfo {
            shard: id,
            train_rows: rows(&shard.train),
            validation_rows: rows(&shard.validation),
            digest: digest::of_rows(digests),
        })
        .collect();
    let preparation = preparation.to_text();
    let data_set = DataSet {
        id: digest::data_set_id(&preparation, &input, &infos),
        name: spec.name.clone(),
        input,
        target,
        shards: infos,
        rows_digest: digest::sum(digests.into_iter().flatten()),
        preparation,
    };
    Prepared { data_set, shards }
}
