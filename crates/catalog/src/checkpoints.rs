//! Which versions of which models are in the model store.

use arrowhop_types::{Digest, ModelId, RunId, Timestamp, Version};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::error::Fault;
use crate::visits::{CommitOutcome, Stale};
use crate::{Catalog, CatalogError, models, row};

/// A version of a model in the model store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The version.
    pub version: Version,
    /// Digest of its state.
    pub digest: Digest,
    /// Size of its file.
    pub bytes: u64,
    /// Its file, below the state directory.
    pub path: String,
    /// Since the Unix epoch.
    pub kept_at: Timestamp,
}

impl Catalog {
    /// Records that a version is in the model store, if the hop log knows that very version: one
    /// that was rolled back while it was being stored is stale, and its file is nobody's.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::NoSuchModel`].
    pub fn checkpoint(
        &mut self,
        run: RunId,
        model: ModelId,
        checkpoint: &Checkpoint,
    ) -> Result<CommitOutcome, CatalogError> {
        self.write("record a checkpoint", |transaction| {
            let current = models::version(transaction, run, model)?;
            if checkpoint.version > current {
                return Ok(CommitOutcome::Stale(Stale::Version { current }));
            }
            let made = digest_of(transaction, run, model, checkpoint.version)?;
            if checkpoint.version > Version(0) && made != Some(checkpoint.digest) {
                return Ok(CommitOutcome::Stale(Stale::Differs { column: "digest" }));
            }
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO checkpoints (run, model, version, digest, bytes, path,
                                                         kept_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    run.0,
                    model.0,
                    checkpoint.version.0,
                    checkpoint.digest.to_string(),
                    checkpoint.bytes,
                    checkpoint.path,
                    checkpoint.kept_at.0,
                ])?;
            Ok(CommitOutcome::Committed)
        })
    }

    /// A model's latest version in the model store.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::NoSuchModel`].
    pub fn latest_checkpoint(
        &self,
        run: RunId,
        model: ModelId,
    ) -> Result<Option<Checkpoint>, CatalogError> {
        self.read("read a checkpoint", |transaction| {
            models::version(transaction, run, model)?;
            latest(transaction, run, model)
        })
    }

    /// Forgets a model's checkpoints below a version that is itself in the model store, but for a
    /// version 0, without which the model could not be made again. Returns their files, below the
    /// state directory, which may then be removed.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::NoSuchModel`].
    pub fn forget_checkpoints(
        &mut self,
        run: RunId,
        model: ModelId,
        below: Version,
    ) -> Result<Vec<String>, CatalogError> {
        self.write("forget checkpoints", |transaction| {
            models::version(transaction, run, model)?;
            let forgotten = transaction
                .prepare_cached(
                    "DELETE FROM checkpoints WHERE run = ?1 AND model = ?2
                         AND version > 0 AND version < ?3
                         AND EXISTS (SELECT 1 FROM checkpoints
                                     WHERE run = ?1 AND model = ?2 AND version = ?3)
                     RETURNING path",
                )?
                .query_map(params![run.0, model.0, below.0], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(forgotten)
        })
    }
}

/// A model's latest version in the model store.
pub(crate) fn latest(
    transaction: &Transaction<'_>,
    run: RunId,
    model: ModelId,
) -> Result<Option<Checkpoint>, Fault> {
    let latest = transaction
        .prepare_cached(
            "SELECT * FROM checkpoints WHERE run = ?1 AND model = ?2
             ORDER BY version DESC LIMIT 1",
        )?
        .query_row(params![run.0, model.0], |row| {
            Ok(Checkpoint {
                version: row::version(row, "version")?,
                digest: row::digest(row, "digest")?,
                bytes: row.get("bytes")?,
                path: row.get("path")?,
                kept_at: row::timestamp(row, "kept_at")?,
            })
        })
        .optional()?;
    Ok(latest)
}

/// The digest of a version 0 that was given.
pub(crate) fn initial(
    transaction: &Transaction<'_>,
    run: RunId,
    model: ModelId,
) -> Result<Option<Digest>, Fault> {
    let digest = transaction
        .prepare_cached(
            "SELECT digest FROM checkpoints WHERE run = ?1 AND model = ?2 AND version = 0",
        )?
        .query_row(params![run.0, model.0], |row| row::digest(row, "digest"))
        .optional()?;
    Ok(digest)
}

/// The digest of a version that the hop log has committed; `None` for version 0.
pub(crate) fn digest_of(
    transaction: &Transaction<'_>,
    run: RunId,
    model: ModelId,
    version: Version,
) -> Result<Option<Digest>, Fault> {
    let digest = transaction
        .prepare_cached(
            "SELECT digest FROM visits
             WHERE run = ?1 AND model = ?2 AND version = ?3
                 AND state = 'committed' AND kind = 'train'",
        )?
        .query_row(params![run.0, model.0, version.0], |row| row::digest(row, "digest"))
        .optional()?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, Ledger};

    const MODEL: ModelId = ModelId(1);

    fn checkpoint(version: Version, digest: Digest) -> Checkpoint {
        let path = format!("models/1/1/{version}.safetensors");
        Checkpoint { version, digest, bytes: 1 << 40, path, kept_at: Timestamp(4) }
    }

    #[test]
    fn the_latest_version_in_the_store_is_the_models_checkpoint() {
        let mut ledger = Ledger::new(2, 3);
        assert_eq!(ledger.catalog.latest_checkpoint(ledger.run, MODEL).unwrap(), None);
        for from in 0..2 {
            ledger.visit(&samples::train(from + 1, 1, 0, u32::try_from(from).unwrap(), from));
        }
        let [first, second, fresh] =
            [1, 2, 0].map(|n| checkpoint(Version(n), samples::digest(MODEL, Version(n))));
        for made in [&second, &first, &fresh, &second] {
            let outcome = ledger.catalog.checkpoint(ledger.run, MODEL, made).unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
        }
        let latest = ledger.catalog.latest_checkpoint(ledger.run, MODEL).unwrap();
        assert_eq!(latest, Some(second.clone()));
        let models = ledger.catalog.run(ledger.run).unwrap().models;
        assert_eq!(models[0].checkpoint, Some((second.version, second.digest)));
        assert_eq!(models[1].checkpoint, None);
        assert_eq!((models[0].initial, models[1].initial), (Some(fresh.digest), None));
        let forgotten = ledger.catalog.forget_checkpoints(ledger.run, MODEL, Version(2)).unwrap();
        assert_eq!(forgotten, [first.path], "version 0 is kept");
        assert_eq!(ledger.catalog.run(ledger.run).unwrap().models[0].initial, models[0].initial);
    }

    #[test]
    fn a_version_that_the_hop_log_does_not_know_is_stale() {
        let mut ledger = Ledger::new(1, 2);
        ledger.visit(&samples::train(1, 1, 0, 0, 0));
        let cases = [
            (Version(2), Stale::Version { current: Version(1) }),
            (Version(1), Stale::Differs { column: "digest" }),
        ];
        for (version, expected) in cases {
            let made = checkpoint(version, Digest([0xee; 32]));
            let outcome = ledger.catalog.checkpoint(ledger.run, MODEL, &made).unwrap();
            assert_eq!(outcome, CommitOutcome::Stale(expected));
        }
        assert_eq!(ledger.catalog.latest_checkpoint(ledger.run, MODEL).unwrap(), None);
    }
}
