//! Data sets: written once for each id, shared by the runs that use them.

use arrowhop_types::{DataSet, DataSetId, InputSpec, ShardInfo, Target};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::CatalogError;
use crate::error::Fault;
use crate::row;
use crate::words::Word;

/// Records a data set unless it is on record.
pub(crate) fn write(transaction: &Transaction<'_>, data: &DataSet) -> Result<(), Fault> {
    match read(transaction, data.id, data.name.clone())? {
        Some(recorded) if recorded == *data => return Ok(()),
        Some(_) => return Err(CatalogError::DataSetDiffers { data_set: data.id }.into()),
        None => {}
    }
    let (target, classes) = match &data.target {
        Target::Classes(names) => ("classes", Some(serde_json::json!(names).to_string())),
        Target::Values(_) => ("values", None),
    };
    let id = data.id.to_string();
    transaction
        .prepare_cached(
            "INSERT INTO data_sets (id, shape, dtype, normalize, target, target_width, classes,
                                    rows_digest, preparation)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            id,
            serde_json::json!(data.input.shape).to_string(),
            data.input.dtype.word(),
            data.input.normalize,
            target,
            data.target.width(),
            classes,
            data.rows_digest.to_string(),
            data.preparation,
        ])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO data_set_shards (data_set, shard, train_rows, validation_rows, digest)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for info in &data.shards {
        let digest = info.digest.to_string();
        insert.execute(params![id, info.shard.0, info.train_rows, info.validation_rows, digest])?;
    }
    Ok(())
}

/// The data set on record under an id, by the name it goes by in a run.
pub(crate) fn read(
    transaction: &Transaction<'_>,
    id: DataSetId,
    name: String,
) -> Result<Option<DataSet>, Fault> {
    let head = transaction
        .prepare_cached("SELECT * FROM data_sets WHERE id = ?1")?
        .query_row([id.to_string()], |row| {
            Ok((
                input(row)?,
                target(row)?,
                row::digest(row, "rows_digest")?,
                row.get("preparation")?,
            ))
        })
        .optional()?;
    let Some((input, target, rows_digest, preparation)) = head else {
        return Ok(None);
    };
    let shards = transaction
        .prepare_cached("SELECT * FROM data_set_shards WHERE data_set = ?1 ORDER BY shard")?
        .query_map([id.to_string()], |row| {
            Ok(ShardInfo {
                shard: row::shard(row)?,
                train_rows: row.get("train_rows")?,
                validation_rows: row.get("validation_rows")?,
                digest: row::digest(row, "digest")?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Some(DataSet { id, name, input, target, shards, rows_digest, preparation }))
}

fn input(row: &Row<'_>) -> rusqlite::Result<InputSpec> {
    Ok(InputSpec {
        shape: row::sizes(row, "shape")?,
        dtype: row::word(row, "dtype")?,
        normalize: row.get("normalize")?,
    })
}

fn target(row: &Row<'_>) -> rusqlite::Result<Target> {
    match row.get::<_, Option<String>>("classes")? {
        Some(_) => row::texts(row, "classes").map(Target::Classes),
        None => row.get("target_width").map(Target::Values),
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{Classify, ErrorClass, Timestamp};

    use crate::{Catalog, CatalogError, samples};

    #[test]
    fn a_data_set_is_kept_once_and_its_name_is_the_runs_own() {
        let state = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(state.path()).unwrap();
        let mut spec = samples::spec(1, 3);
        let first = catalog.submit(&spec, Timestamp(0)).unwrap();
        spec.data.name = "another name of it".into();
        let second = catalog.submit(&spec, Timestamp(0)).unwrap();
        assert_eq!(catalog.spec(first).unwrap().data.name, "flowers");
        assert_eq!(catalog.spec(second).unwrap(), spec);
    }

    #[test]
    fn other_content_under_the_same_id_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(state.path()).unwrap();
        let mut spec = samples::spec(1, 3);
        catalog.submit(&spec, Timestamp(0)).unwrap();
        spec.data.shards[1].train_rows += 1;
        let error = catalog.submit(&spec, Timestamp(0)).unwrap_err();
        assert!(
            matches!(error, CatalogError::DataSetDiffers { data_set } if data_set == spec.data.id)
        );
        assert_eq!(error.class(), ErrorClass::Conflict);
        assert_eq!(catalog.runs().unwrap().len(), 1);
    }
}
