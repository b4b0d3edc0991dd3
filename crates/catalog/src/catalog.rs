//! The catalog's file: opening, migrating, and the transactions in which everything happens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use refinery::{Migration, Runner};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use crate::CatalogError;
use crate::error::Fault;

/// The catalog's file within the state directory.
const FILE: &str = "catalog.sqlite";

/// Held while the file is created or migrated, so that two processes do not do it at once.
const LOCK_FILE: &str = "catalog.lock";

/// How long to wait for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Statements kept prepared: a few more than the catalog has.
const STATEMENTS_MAX: usize = 64;

/// The schema's history, only ever appended to.
const MIGRATIONS: [(&str, &str); 8] = [
    ("V1__catalog", include_str!("../../../schemas/sql/catalog/V1__catalog.sql")),
    ("V2__optimizers", include_str!("../../../schemas/sql/catalog/V2__optimizers.sql")),
    ("V3__metrics", include_str!("../../../schemas/sql/catalog/V3__metrics.sql")),
    ("V4__columns", include_str!("../../../schemas/sql/catalog/V4__columns.sql")),
    ("V5__computed_by", include_str!("../../../schemas/sql/catalog/V5__computed_by.sql")),
    ("V6__precision", include_str!("../../../schemas/sql/catalog/V6__precision.sql")),
    ("V7__test_rows", include_str!("../../../schemas/sql/catalog/V7__test_rows.sql")),
    ("V8__sources", include_str!("../../../schemas/sql/catalog/V8__sources.sql")),
];

/// The durable record of runs. One connection; any number of them may be open, in any number of
/// processes: readers never wait, writers wait for each other.
#[derive(Debug)]
pub struct Catalog {
    path: PathBuf,
    connection: Connection,
}

impl Catalog {
    /// Opens the catalog in a state directory, making both where they do not exist yet, and
    /// migrates it to this program's schema.
    ///
    /// # Errors
    /// When the directory cannot be written, or its catalog is damaged, newer, or in use for more
    /// than 10 s.
    pub fn open(directory: &Path) -> Result<Self, CatalogError> {
        let refused = |path: &Path| {
            let path = path.to_owned();
            |source: std::io::Error| CatalogError::FileSystem {
                action: "open the catalog",
                path,
                source: source.into(),
            }
        };
        fs::create_dir_all(directory).map_err(refused(directory))?;
        let lock_path = directory.join(LOCK_FILE);
        let lock = File::create(&lock_path).map_err(refused(&lock_path))?;
        lock.lock().map_err(refused(&lock_path))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut catalog = Self::connect(directory, flags)?;
        catalog.migrate()?;
        Ok(catalog)
    }

    /// Opens a catalog that must exist, for reading and writing.
    ///
    /// # Errors
    /// [`CatalogError::NoCatalog`] when it does not exist, and as [`Catalog::open`].
    pub fn open_existing(directory: &Path) -> Result<Self, CatalogError> {
        Self::must_exist(directory)?;
        Self::open(directory)
    }

    /// Opens a catalog that must exist, for reading only: beside a supervisor that writes it.
    ///
    /// # Errors
    /// [`CatalogError::NoCatalog`] when it does not exist, [`CatalogError::OtherSchema`] when its
    /// schema is not this program's, and as [`Catalog::open`].
    pub fn open_read_only(directory: &Path) -> Result<Self, CatalogError> {
        Self::must_exist(directory)?;
        let catalog = Self::connect(directory, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let found = catalog.schema()?.unwrap_or(0);
        if found == known_schema() {
            Ok(catalog)
        } else {
            Err(CatalogError::OtherSchema { path: catalog.path, found, known: known_schema() })
        }
    }

    /// The catalog's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads in one transaction: everything `body` reads is of the same moment.
    pub(crate) fn read<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, CatalogError> {
        let transact = || {
            let transaction =
                Transaction::new_unchecked(&self.connection, TransactionBehavior::Deferred)?;
            body(&transaction)
        };
        transact().map_err(|fault| fault.during(action, &self.path))
    }

    /// Writes in one transaction: all of `body` or nothing.
    pub(crate) fn write<T>(
        &mut self,
        action: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, CatalogError> {
        let connection = &mut self.connection;
        let transact = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        transact().map_err(|fault: Fault| fault.during(action, &self.path))
    }

    fn must_exist(directory: &Path) -> Result<(), CatalogError> {
        if directory.join(FILE).is_file() {
            Ok(())
        } else {
            Err(CatalogError::NoCatalog { directory: directory.to_owned() })
        }
    }

    fn connect(directory: &Path, flags: OpenFlags) -> Result<Self, CatalogError> {
        let path = directory.join(FILE);
        let set_up = || {
            let connection =
                Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            Ok(connection)
        };
        match set_up() {
            Ok(connection) => Ok(Self { path, connection }),
            Err(source) => Err(CatalogError::sqlite("open the catalog", &path, source)),
        }
    }

    /// The schema version of the file; `None` when nothing was ever written.
    fn schema(&self) -> Result<Option<i32>, CatalogError> {
        self.read("open the catalog", |transaction| {
            let tables: u32 =
                transaction
                    .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables == 0 {
                return Ok(None);
            }
            let history = transaction
                .query_row(
                    "SELECT 1 FROM sqlite_schema WHERE name = 'refinery_schema_history'",
                    [],
                    |_| Ok(()),
                )
                .optional()?;
            if history.is_none() {
                return Err(Fault::Refused(CatalogError::Damaged {
                    action: "open the catalog",
                    path: self.path.clone(),
                    source: "it is a database of another program".into(),
                }));
            }
            Ok(transaction.query_row(
                "SELECT max(version) FROM refinery_schema_history",
                [],
                |row| row.get(0),
            )?)
        })
    }

    fn migrate(&mut self) -> Result<(), CatalogError> {
        let known = known_schema();
        match self.schema()? {
            Some(found) if found > known => {
                return Err(CatalogError::OtherSchema { path: self.path.clone(), found, known });
            }
            Some(found) if found == known => return Ok(()),
            Some(_) | None => {}
        }
        let set = |connection: &Connection, name: &str, value: &str| {
            connection
                .pragma_update(None, name, value)
                .map_err(|source| CatalogError::sqlite("open the catalog", &self.path, source))
        };
        set(&self.connection, "journal_mode", "WAL")?;
        // A migration may make a table anew that others refer to.
        set(&self.connection, "foreign_keys", "OFF")?;
        Runner::new(&migrations(&MIGRATIONS))
            .set_grouped(true)
            .run(&mut self.connection)
            .map_err(|source| CatalogError::Migrate { path: self.path.clone(), source })?;
        set(&self.connection, "foreign_keys", "ON")?;
        self.read("open the catalog", |transaction| {
            let broken: u32 = transaction.query_row(
                "SELECT count(*) FROM pragma_foreign_key_check",
                [],
                |row| row.get(0),
            )?;
            if broken > 0 {
                return Err(Fault::Refused(CatalogError::Damaged {
                    action: "migrate the catalog",
                    path: self.path.clone(),
                    source: format!("{broken} rows refer to rows that are not there").into(),
                }));
            }
            Ok(())
        })
    }
}

fn migrations(listed: &[(&str, &str)]) -> Vec<Migration> {
    let migrations = listed.iter().map(|(name, sql)| Migration::unapplied(name, sql));
    migrations.collect::<Result<_, _>>().expect("migrations are named V<number>__<name>")
}

/// The schema version of this program.
fn known_schema() -> i32 {
    i32::try_from(MIGRATIONS.len()).expect("migrations are counted from 1, without gaps")
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{Classify, ErrorClass, ModelId, RunId, Timestamp};

    use super::*;
    use crate::samples;

    #[test]
    fn every_migration_in_the_folder_is_listed_in_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/sql/catalog");
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_by_key(|name| name[1..name.find("__").unwrap()].parse::<i32>().unwrap());
        let listed: Vec<_> = MIGRATIONS.iter().map(|(name, _)| format!("{name}.sql")).collect();
        assert_eq!(names, listed);
        for (number, name) in (1..).zip(&listed) {
            assert!(name.starts_with(&format!("V{number}__")), "{name}");
        }
    }

    #[test]
    fn opening_again_keeps_what_is_there() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("deep/er");
        let spec = samples::spec(2, 3);
        let run = Catalog::open(&directory).unwrap().submit(&spec, Timestamp(5)).unwrap();
        for _ in 0..2 {
            assert_eq!(Catalog::open(&directory).unwrap().spec(run).unwrap(), spec);
        }
        let catalog = Catalog::open_existing(&directory).unwrap();
        let pragma = |name: &str| -> String {
            catalog
                .connection
                .query_row(&format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"), [], |row| {
                    row.get(0)
                })
                .unwrap()
        };
        assert_eq!(pragma("journal_mode"), "wal");
        assert_eq!(pragma("foreign_keys"), "1");
        assert_eq!(pragma("synchronous"), "1");
        let applied: usize = catalog
            .connection
            .query_row("SELECT count(*) FROM refinery_schema_history", [], |row| row.get(0))
            .unwrap();
        assert_eq!(applied, MIGRATIONS.len());
    }

    /// A catalog of the first schema, as SQL, becomes one of this program's.
    #[test]
    fn an_old_catalog_s_optimizers_keep_their_legacy_formulas_and_every_bit() {
        let state = tempfile::tempdir().unwrap();
        let mut old = Connection::open(state.path().join(FILE)).unwrap();
        Runner::new(&migrations(&MIGRATIONS[..1])).set_grouped(true).run(&mut old).unwrap();
        let digest = "0".repeat(64);
        old.execute_batch(&format!(
            "INSERT INTO data_sets VALUES
                 ('{digest}', '[4]', 'f32', 1, 'values', 1, NULL, '{digest}', '');
             INSERT INTO runs VALUES
                 (1, 'old', '7', 2, '{digest}', 'd', 'train_loss', 'minimize', 'evaluate', 'free',
                  NULL, 0, 'every epoch', 0, '[]', '', 'finished', NULL, 0, 0);
             INSERT INTO run_architectures VALUES (1, 0, 'a', '{{}}');
             INSERT INTO models VALUES
                 (1, 1, 'a', 'sgd', 0.1, 1e-6, 0.9, 1, NULL, NULL, NULL, NULL, NULL, NULL,
                  'mean_squared_error', 32, 1, 0, 'finished', NULL),
                 (1, 2, 'a', 'rmsprop', 0.30000000000000004, 0, 0, NULL, 0.8, 1e-7, 1, NULL, NULL,
                  NULL, 'mean_squared_error', 32, 1, 0, 'finished', NULL),
                 (1, 3, 'a', 'adam', 0.001, 0, NULL, NULL, NULL, 1e-7, NULL, 0.9, 0.999, 0,
                  'mean_squared_error', 32, 1, 0, 'finished', NULL);
             INSERT INTO prescribed_orders VALUES (1, 2, 0, 0);"
        ))
        .unwrap();
        drop(old);
        let spec = Catalog::open(state.path()).unwrap().spec(arrowhop_types::RunId(1)).unwrap();
        let texts: Vec<_> = spec.configs.iter().map(|c| c.optimizer.to_string()).collect();
        let expected = [
            "legacy sgd 0.1 decay 1e-6 momentum 0.9 nesterov true",
            "legacy rmsprop 0.30000000000000004 rho 0.8 centered true",
            "legacy adam 0.001",
        ];
        assert_eq!(texts, expected);
    }

    /// A run as the first schema had it: one model of classes, one visit, one epoch.
    const FIRST: &str = "
        INSERT INTO data_sets VALUES ('00', '[4]', 'f32', 1.0, 'classes', 2, '[]', '00', '{}');
        INSERT INTO runs (name, seed, epochs, data_set, data_set_name, objective_metric,
            objective_direction, train_metrics, visit_order, is_prescribed, checkpoint_policy,
            reset_optimizer_each_visit, bounds, experiment, status, submitted_at)
            VALUES ('old', '1', 1, '00', 'old', 'validation_accuracy', 'maximize', 'evaluate',
                'free', 0, 'every visit', 0, '[]', '', 'finished', 0);
        INSERT INTO run_architectures VALUES (1, 0, 'net', '{}');
        INSERT INTO models (run, model, architecture, optimizer, learning_rate, decay, momentum,
            nesterov, loss, batch_rows, passes, status)
            VALUES (1, 1, 'net', 'sgd', 0.1, 0.0, 0.0, 0, 'mean_squared_error', 8, 1, 'finished');
        INSERT INTO visits (run, visit, model, epoch, kind, shard, segment, slot, from_version,
            attempt, state, train_rows, train_loss_sum, train_correct, validation_rows,
            validation_loss_sum)
            VALUES (1, 1, 1, 0, 'train', 0, 0, 0, 0, 1, 'abandoned', 8, 4.0, 6, 0, 0.0);
        INSERT INTO epochs VALUES (1, 1, 0, 8, 4.0, 6, 2, NULL, 1, 9);";

    #[test]
    fn a_catalog_of_the_first_schema_keeps_what_it_measured() {
        let state = tempfile::tempdir().unwrap();
        let mut old = Connection::open(state.path().join(FILE)).unwrap();
        Runner::new(&migrations(&MIGRATIONS[..1])).run(&mut old).unwrap();
        old.execute_batch(FIRST).unwrap();
        drop(old);
        let catalog = Catalog::open(state.path()).unwrap();
        let text = |query: &str| -> String {
            catalog.connection.query_row(query, [], |row| row.get(0)).unwrap()
        };
        let outputs = text("SELECT loss || loss_weight || metrics FROM model_outputs");
        assert_eq!(outputs, "mean_squared_error1.0[\"accuracy\"]");
        let sums = text("SELECT part || ' ' || metric || ' ' || sums FROM visit_metrics");
        assert_eq!(sums, "train accuracy 6,8");
        let metrics = text(
            "SELECT concat_ws(' ', train_loss, train_accuracy, validation_loss, \
                            validation_accuracy) FROM metrics",
        );
        assert_eq!(metrics, "0.5 0.75 0.5");
        let record = catalog.read("test", |transaction| {
            crate::scores::read_epochs(transaction, RunId(1), ModelId(1))
        });
        let [epoch] = &record.unwrap()[..] else { panic!("there is one epoch") };
        assert!(epoch.validation.loss.is_some_and(f64::is_nan), "{epoch:?}");
        let best = catalog.runs().unwrap().swap_remove(0).best;
        assert_eq!(best, Some(0.5));
    }

    #[test]
    fn many_openers_at_once_migrate_once() {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let openers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Catalog::open(state.path()).unwrap())).collect();
            for opener in openers {
                assert_eq!(opener.join().unwrap().schema().unwrap(), Some(known_schema()));
            }
        });
    }

    #[test]
    fn a_missing_catalog_is_named_with_the_next_step() {
        let state = tempfile::tempdir().unwrap();
        for opened in [Catalog::open_existing(state.path()), Catalog::open_read_only(state.path())]
        {
            let error = opened.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Missing);
            let text = error.to_string();
            assert!(text.contains(state.path().to_str().unwrap()), "{text}");
            assert!(text.contains("arrowhop fit"), "{text}");
        }
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_newer_catalog_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(state.path()).unwrap();
        catalog
            .connection
            .execute(
                "UPDATE refinery_schema_history SET version = 1000 WHERE version = ?1",
                [known_schema()],
            )
            .unwrap();
        for opened in [Catalog::open(state.path()), Catalog::open_read_only(state.path())] {
            let error = opened.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Conflict);
            let text = error.to_string();
            let known = known_schema();
            let end = format!("has schema 1000, this arrowhop knows {known}; use a newer arrowhop");
            assert!(text.ends_with(&end), "{text}");
            assert!(text.contains(FILE), "{text}");
        }
    }

    #[test]
    fn a_damaged_file_and_a_stranger_are_refused_by_path() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(FILE);
        fs::write(&path, b"this is not a database, whatever its name says".repeat(50)).unwrap();
        let assert_refused = || {
            for opened in [Catalog::open(state.path()), Catalog::open_read_only(state.path())] {
                let error = opened.unwrap_err();
                assert!(matches!(error, CatalogError::Damaged { .. }), "{error:?}");
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            }
        };
        assert_refused();
        fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
        assert_refused();
    }

    #[test]
    fn a_reader_cannot_write_and_reads_while_a_writer_writes() {
        let state = tempfile::tempdir().unwrap();
        let mut writer = Catalog::open(state.path()).unwrap();
        let mut reader = Catalog::open_read_only(state.path()).unwrap();
        let spec = samples::spec(1, 1);
        let refused = reader.submit(&spec, Timestamp(0)).unwrap_err();
        assert!(matches!(refused, CatalogError::FileSystem { .. }), "{refused:?}");
        let read_inside = writer.write("test", |_| Ok(reader.runs().unwrap().len())).unwrap();
        assert_eq!(read_inside, 0);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                for _ in 0..50 {
                    writer.submit(&spec, Timestamp(0)).unwrap();
                }
            });
            let mut seen = 0;
            while seen < 50 {
                assert!(!writing.is_finished() || reader.runs().unwrap().len() == 50);
                let now = reader.runs().unwrap();
                assert!(now.len() >= seen, "a run vanished");
                assert!(now.iter().all(|run| run.models == 1), "a half-written run was seen");
                seen = now.len();
            }
        });
    }
}
