//! What visits and epochs measured: sums of visits, from which an epoch can go on, and values of
//! epochs.

use std::collections::BTreeMap;

use arrowhop_types::{
    EpochRecord, Measures, MetricSums, ModelId, Part, RunId, VisitId, VisitRecord,
};
use rusqlite::{Row, Transaction, params};

use crate::error::Fault;
use crate::row;
use crate::words::Word;

/// Records the sums of a visit's metrics.
pub(crate) fn write_visit(
    transaction: &Transaction<'_>,
    run: RunId,
    record: &VisitRecord,
) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO visit_metrics (run, visit, part, position, output, metric, sums)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (part, score) in [(Part::Train, &record.train), (Part::Validation, &record.validation)] {
        for (position, entry) in score.metrics.iter().enumerate() {
            insert.execute(params![
                run.0,
                record.visit.0,
                part.word(),
                position,
                entry.output,
                entry.metric.to_string(),
                row::list(&entry.sums),
            ])?;
        }
    }
    Ok(())
}

/// Gives a run's visits the sums of their metrics.
pub(crate) fn read_visits(
    transaction: &Transaction<'_>,
    run: RunId,
    visits: &mut [VisitRecord],
) -> Result<(), Fault> {
    let mut by_visit: BTreeMap<VisitId, &mut VisitRecord> =
        visits.iter_mut().map(|record| (record.visit, record)).collect();
    let mut select = transaction
        .prepare_cached("SELECT * FROM visit_metrics WHERE run = ?1 ORDER BY visit, position")?;
    let mut rows = select.query([run.0])?;
    while let Some(row) = rows.next()? {
        let Some(record) = by_visit.get_mut(&VisitId(row.get("visit")?)) else { continue };
        let score = match row::word(row, "part")? {
            Part::Train => &mut record.train,
            Part::Validation => &mut record.validation,
        };
        score.metrics.push(MetricSums {
            output: row.get("output")?,
            metric: row::term(row, "metric")?,
            sums: row::numbers(row, "sums")?,
        });
    }
    Ok(())
}

/// Records an epoch's metrics instead of those it had.
pub(crate) fn write_epoch(
    transaction: &Transaction<'_>,
    run: RunId,
    model: ModelId,
    record: &EpochRecord,
) -> Result<(), Fault> {
    transaction
        .prepare_cached("DELETE FROM epochs WHERE run = ?1 AND model = ?2 AND epoch = ?3")?
        .execute(params![run.0, model.0, record.epoch])?;
    transaction
        .prepare_cached(
            "INSERT INTO epochs (run, model, epoch, train_rows, train_loss, validation_rows,
                 validation_loss, ended_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            run.0,
            model.0,
            record.epoch,
            record.train.rows,
            record.train.loss,
            record.validation.rows,
            record.validation.loss,
            record.ended_at.0,
        ])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO epoch_metrics (run, model, epoch, part, position, metric, value)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for part in [Part::Train, Part::Validation] {
        for (position, (name, value)) in record.measures(part).metrics.iter().enumerate() {
            let key = (run.0, model.0, record.epoch, part.word());
            insert.execute(params![key.0, key.1, key.2, key.3, position, name, value])?;
        }
    }
    Ok(())
}

/// A model's epochs, in order.
pub(crate) fn read_epochs(
    transaction: &Transaction<'_>,
    run: RunId,
    model: ModelId,
) -> Result<Vec<EpochRecord>, Fault> {
    let key = params![run.0, model.0];
    let mut epochs: Vec<EpochRecord> = transaction
        .prepare_cached("SELECT * FROM epochs WHERE run = ?1 AND model = ?2 ORDER BY epoch")?
        .query_map(key, epoch)?
        .collect::<Result<_, _>>()?;
    let mut select = transaction.prepare_cached(
        "SELECT * FROM epoch_metrics WHERE run = ?1 AND model = ?2 ORDER BY epoch, position",
    )?;
    let mut rows = select.query(key)?;
    while let Some(row) = rows.next()? {
        let number: u32 = row.get("epoch")?;
        let place = epochs.binary_search_by_key(&number, |record| record.epoch);
        let record = &mut epochs[place.expect("metrics refer to their epoch by a foreign key")];
        let measures = match row::word(row, "part")? {
            Part::Train => &mut record.train,
            Part::Validation => &mut record.validation,
        };
        measures.metrics.push((row.get("metric")?, row::value(row, "value")?));
    }
    Ok(epochs)
}

/// A row of `epochs`, without its metrics.
fn epoch(row: &Row<'_>) -> rusqlite::Result<EpochRecord> {
    let measures = |rows: &str, loss: &str| {
        let rows = row.get(rows)?;
        let loss = if rows > 0 { Some(row::value(row, loss)?) } else { None };
        Ok::<_, rusqlite::Error>(Measures { rows, loss, metrics: Vec::new() })
    };
    Ok(EpochRecord {
        epoch: row.get("epoch")?,
        train: measures("train_rows", "train_loss")?,
        validation: measures("validation_rows", "validation_loss")?,
        ended_at: row::timestamp(row, "ended_at")?,
    })
}
