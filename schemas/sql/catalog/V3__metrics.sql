-- Losses and metrics by their text, as experiments write them; several metrics at once; several
-- outputs; class weights.
--
-- Numbers in a list are decimal and separated by commas; they read back exactly. A value that is
-- not a number is NULL.

-- What each output of a model is held to; a single one stands for all.
CREATE TABLE model_outputs (
    run         INTEGER NOT NULL,
    model       INTEGER NOT NULL,
    position    INTEGER NOT NULL,  -- from 0
    loss        TEXT    NOT NULL,
    loss_weight REAL    NOT NULL,
    metrics     TEXT    NOT NULL,  -- as a JSON list
    PRIMARY KEY (run, model, position),
    FOREIGN KEY (run, model) REFERENCES models
) STRICT, WITHOUT ROWID;

INSERT INTO model_outputs
    SELECT run, model, 0, loss, 1.0, CASE target WHEN 'classes' THEN '["accuracy"]' ELSE '[]' END
    FROM models JOIN runs ON runs.id = run JOIN data_sets ON data_sets.id = data_set;

ALTER TABLE models DROP COLUMN loss;
-- By class, what its rows' losses count in training; empty where every class counts 1.
ALTER TABLE models ADD COLUMN class_weights TEXT NOT NULL DEFAULT '';

-- Sums over a committed visit's rows, from which a stopped run's epoch goes on.
CREATE TABLE visit_metrics (
    run      INTEGER NOT NULL,
    visit    INTEGER NOT NULL,
    part     TEXT    NOT NULL CHECK (part IN ('train', 'validation')),
    position INTEGER NOT NULL,  -- from 0
    output   TEXT,              -- its name, where the network has several
    metric   TEXT    NOT NULL,
    sums     TEXT    NOT NULL,
    PRIMARY KEY (run, visit, part, position),
    FOREIGN KEY (run, visit) REFERENCES visits
) STRICT, WITHOUT ROWID;

INSERT INTO visit_metrics
    SELECT run, visit, 'train', 0, NULL, 'accuracy', train_correct || ',' || train_rows
    FROM visits WHERE train_correct IS NOT NULL AND train_rows > 0
    UNION ALL
    SELECT run, visit, 'validation', 0, NULL, 'accuracy',
           validation_correct || ',' || validation_rows
    FROM visits WHERE validation_correct IS NOT NULL AND validation_rows > 0;

-- Values of a model's metrics after an epoch.
CREATE TABLE epoch_metrics (
    run      INTEGER NOT NULL,
    model    INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    part     TEXT    NOT NULL CHECK (part IN ('train', 'validation')),
    position INTEGER NOT NULL,  -- from 0
    metric   TEXT    NOT NULL,  -- behind its output's name, where the network has several
    value    REAL,
    PRIMARY KEY (run, model, epoch, part, position),
    FOREIGN KEY (run, model, epoch) REFERENCES epochs ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

INSERT INTO epoch_metrics
    SELECT run, model, epoch, 'train', 0, 'accuracy', CAST(train_correct AS REAL) / train_rows
    FROM epochs WHERE train_correct IS NOT NULL AND train_rows > 0
    UNION ALL
    SELECT run, model, epoch, 'validation', 0, 'accuracy',
           CAST(validation_correct AS REAL) / validation_rows
    FROM epochs WHERE validation_correct IS NOT NULL AND validation_rows > 0;

DROP VIEW metrics;
ALTER TABLE visits DROP COLUMN train_correct;
ALTER TABLE visits DROP COLUMN validation_correct;
ALTER TABLE epochs DROP COLUMN train_correct;
ALTER TABLE epochs DROP COLUMN validation_correct;
UPDATE epochs SET train_loss_sum = train_loss_sum / train_rows,
                  validation_loss_sum = validation_loss_sum / validation_rows;
ALTER TABLE epochs RENAME COLUMN train_loss_sum TO train_loss;
ALTER TABLE epochs RENAME COLUMN validation_loss_sum TO validation_loss;

-- For people: a line per epoch.
CREATE VIEW metrics AS
    SELECT run, model, epoch, train_loss,
           (SELECT value FROM epoch_metrics AS of
            WHERE (of.run, of.model, of.epoch) = (epochs.run, epochs.model, epochs.epoch)
                AND part = 'train' AND metric = 'accuracy') AS train_accuracy,
           validation_loss,
           (SELECT value FROM epoch_metrics AS of
            WHERE (of.run, of.model, of.epoch) = (epochs.run, epochs.model, epochs.epoch)
                AND part = 'validation' AND metric = 'accuracy') AS validation_accuracy
    FROM epochs ORDER BY run, model, epoch;

-- For people: every metric, a line each.
CREATE VIEW metric_values AS
    SELECT run, model, epoch, 'train' AS part, 'loss' AS metric, train_loss AS value
    FROM epochs WHERE train_rows > 0
    UNION ALL
    SELECT run, model, epoch, 'validation', 'loss', validation_loss
    FROM epochs WHERE validation_rows > 0
    UNION ALL
    SELECT run, model, epoch, part, metric, value FROM epoch_metrics
    ORDER BY run, model, epoch, part, metric;
