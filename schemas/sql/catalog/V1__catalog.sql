-- The catalog: the durable record of runs, in SQLite.
--
-- Times of submission are microseconds since the Unix epoch; times inside a run are microseconds
-- since its start. Durations end in _us. Digests are 64 lowercase hexadecimal digits. A loss sum
-- that is not a number is NULL. Lists are JSON text.

-- A prepared data set, named by its content and preparation.
CREATE TABLE data_sets (
    id           TEXT    NOT NULL PRIMARY KEY,
    shape        TEXT    NOT NULL,  -- of one input, as a JSON list
    dtype        TEXT    NOT NULL CHECK (dtype IN ('u8', 'f32')),
    normalize    REAL    NOT NULL,  -- inputs are divided by this
    target       TEXT    NOT NULL CHECK (target IN ('classes', 'values')),
    target_width INTEGER NOT NULL,  -- number of classes, or of values
    classes      TEXT,              -- names by index, as a JSON list; NULL for values
    rows_digest  TEXT    NOT NULL,
    preparation  TEXT    NOT NULL,
    CHECK ((target = 'classes') = (classes IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE data_set_shards (
    data_set        TEXT    NOT NULL REFERENCES data_sets,
    shard           INTEGER NOT NULL,
    train_rows      INTEGER NOT NULL,
    validation_rows INTEGER NOT NULL,
    digest          TEXT    NOT NULL,
    PRIMARY KEY (data_set, shard)
) STRICT, WITHOUT ROWID;

-- A model selection, as submitted, and how it stands.
CREATE TABLE runs (
    id                         INTEGER PRIMARY KEY AUTOINCREMENT,
    name                       TEXT    NOT NULL,
    seed                       TEXT    NOT NULL,  -- decimal: a seed may exceed SQLite's integers
    epochs                     INTEGER NOT NULL,
    data_set                   TEXT    NOT NULL REFERENCES data_sets,
    data_set_name              TEXT    NOT NULL,  -- the name in this run's experiment
    objective_metric           TEXT    NOT NULL,
    objective_direction        TEXT    NOT NULL CHECK (objective_direction IN ('minimize', 'maximize')),
    train_metrics              TEXT    NOT NULL CHECK (train_metrics IN ('evaluate', 'running')),
    visit_order                TEXT    NOT NULL CHECK (visit_order IN ('free', 'planned', 'as')),
    visit_order_run            INTEGER,           -- the run whose order 'as' repeats
    is_prescribed              INTEGER NOT NULL CHECK (is_prescribed IN (0, 1)),  -- see prescribed_orders
    checkpoint_policy          TEXT    NOT NULL CHECK (checkpoint_policy IN ('every visit', 'every epoch')),
    reset_optimizer_each_visit INTEGER NOT NULL CHECK (reset_optimizer_each_visit IN (0, 1)),
    bounds                     TEXT    NOT NULL,  -- what cut the run short, as a JSON list
    experiment                 TEXT    NOT NULL,  -- as it was written
    status                     TEXT    NOT NULL
        CHECK (status IN ('queued', 'running', 'finished', 'stopped', 'failed')),
    reason                     TEXT,
    submitted_at               INTEGER NOT NULL,
    elapsed_us                 INTEGER NOT NULL DEFAULT 0,
    CHECK ((visit_order = 'as') = (visit_order_run IS NOT NULL)),
    CHECK ((status = 'failed') = (reason IS NOT NULL))
) STRICT;

CREATE TABLE run_architectures (
    run        INTEGER NOT NULL REFERENCES runs,
    position   INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    keras_json TEXT    NOT NULL,
    PRIMARY KEY (run, position),
    UNIQUE (run, name)
) STRICT, WITHOUT ROWID;

-- The slots a run was last given.
CREATE TABLE run_slots (
    run      INTEGER NOT NULL REFERENCES runs,
    position INTEGER NOT NULL,
    segment  INTEGER NOT NULL,
    slot     INTEGER NOT NULL,
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;

-- A model of a run: its configuration and how it stands. A parameter that its optimizer does not
-- have is NULL.
CREATE TABLE models (
    run           INTEGER NOT NULL REFERENCES runs,
    model         INTEGER NOT NULL,  -- from 1
    architecture  TEXT    NOT NULL,
    optimizer     TEXT    NOT NULL CHECK (optimizer IN ('sgd', 'rmsprop', 'adam')),
    learning_rate REAL    NOT NULL,
    decay         REAL    NOT NULL,
    momentum      REAL,
    nesterov      INTEGER CHECK (nesterov IN (0, 1)),
    rho           REAL,
    epsilon       REAL,
    centered      INTEGER CHECK (centered IN (0, 1)),
    beta_1        REAL,
    beta_2        REAL,
    amsgrad       INTEGER CHECK (amsgrad IN (0, 1)),
    loss          TEXT    NOT NULL,
    batch_rows    INTEGER NOT NULL,
    passes        INTEGER NOT NULL,
    version       INTEGER NOT NULL DEFAULT 0,  -- training visits committed
    status        TEXT    NOT NULL
        CHECK (status IN ('running', 'finished', 'diverged', 'failed', 'stopped')),
    reason        TEXT,
    PRIMARY KEY (run, model),
    FOREIGN KEY (run, architecture) REFERENCES run_architectures (run, name),
    CHECK ((status IN ('diverged', 'failed')) = (reason IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- The order of training visits given in advance, over all epochs.
CREATE TABLE prescribed_orders (
    run      INTEGER NOT NULL,
    model    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    shard    INTEGER NOT NULL,
    PRIMARY KEY (run, model, position),
    FOREIGN KEY (run, model) REFERENCES models
) STRICT, WITHOUT ROWID;

-- The hop log. A visit is written as 'intended' before it is sent to a segment, and becomes
-- 'committed' at most once. 'abandoned': it was sent and will not be heard of again.
-- 'rolled back': the version it made, or started from, was lost.
CREATE TABLE visits (
    run                 INTEGER NOT NULL,
    visit               INTEGER NOT NULL,  -- in the order of decisions
    model               INTEGER NOT NULL,
    epoch               INTEGER NOT NULL,  -- from 0
    kind                TEXT    NOT NULL CHECK (kind IN ('train', 'evaluate')),
    shard               INTEGER NOT NULL,
    segment             INTEGER NOT NULL,
    slot                INTEGER NOT NULL,
    from_version        INTEGER NOT NULL,
    attempt             INTEGER NOT NULL,
    state               TEXT    NOT NULL
        CHECK (state IN ('intended', 'committed', 'rolled back', 'abandoned')),
    -- From here on NULL until committed.
    commit_number       INTEGER,           -- from 1, in the order of commits
    version             INTEGER,           -- the version it left with
    digest              TEXT,              -- of that version's state
    started_at          INTEGER,
    ended_at            INTEGER,
    queue_us            INTEGER,           -- the model waited for a slot
    fetch_us            INTEGER,           -- its state was being fetched
    stall_us            INTEGER,           -- the slot waited for the state
    train_us            INTEGER,
    evaluate_us         INTEGER,
    state_us            INTEGER,           -- the slot decoded, encoded, stored
    cpu_us              INTEGER,
    hop_bytes           INTEGER,
    train_rows          INTEGER,
    train_loss_sum      REAL,
    train_correct       INTEGER,
    validation_rows     INTEGER,
    validation_loss_sum REAL,
    validation_correct  INTEGER,
    PRIMARY KEY (run, visit),
    UNIQUE (run, commit_number),
    FOREIGN KEY (run, model) REFERENCES models,
    CHECK (state <> 'committed' OR (commit_number IS NOT NULL AND version IS NOT NULL
        AND digest IS NOT NULL AND version = from_version + (kind = 'train')))
) STRICT, WITHOUT ROWID;

-- A model visits each shard once per epoch and kind, and makes each version once.
CREATE UNIQUE INDEX visits_once ON visits (run, model, epoch, kind, shard)
    WHERE state = 'committed';
CREATE UNIQUE INDEX visits_versions ON visits (run, model, version)
    WHERE state = 'committed' AND kind = 'train';
CREATE INDEX visits_intended ON visits (run) WHERE state = 'intended';

-- A model's metrics after an epoch.
CREATE TABLE epochs (
    run                 INTEGER NOT NULL,
    model               INTEGER NOT NULL,
    epoch               INTEGER NOT NULL,  -- from 0
    train_rows          INTEGER NOT NULL,
    train_loss_sum      REAL,
    train_correct       INTEGER,
    validation_rows     INTEGER NOT NULL,
    validation_loss_sum REAL,
    validation_correct  INTEGER,
    ended_at            INTEGER NOT NULL,
    PRIMARY KEY (run, model, epoch),
    FOREIGN KEY (run, model) REFERENCES models
) STRICT, WITHOUT ROWID;

-- Versions in the model store.
CREATE TABLE checkpoints (
    run     INTEGER NOT NULL,
    model   INTEGER NOT NULL,
    version INTEGER NOT NULL,
    digest  TEXT    NOT NULL,
    bytes   INTEGER NOT NULL,
    path    TEXT    NOT NULL,  -- below the state directory
    kept_at INTEGER NOT NULL,  -- since the Unix epoch
    PRIMARY KEY (run, model, version),
    FOREIGN KEY (run, model) REFERENCES models
) STRICT, WITHOUT ROWID;

-- For people: committed visits in order.
CREATE VIEW hop_log AS
    SELECT run, commit_number, visit, model, epoch, kind, shard, segment || '.' || slot AS slot,
           version, started_at, ended_at, train_us, evaluate_us, stall_us, hop_bytes
    FROM visits WHERE state = 'committed' ORDER BY run, commit_number;

-- For people: metrics per row instead of sums.
CREATE VIEW metrics AS
    SELECT run, model, epoch,
           train_loss_sum / train_rows AS train_loss,
           CAST(train_correct AS REAL) / train_rows AS train_accuracy,
           validation_loss_sum / validation_rows AS validation_loss,
           CAST(validation_correct AS REAL) / validation_rows AS validation_accuracy
    FROM epochs ORDER BY run, model, epoch;
