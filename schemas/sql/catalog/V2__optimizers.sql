-- Every optimizer with every parameter: a row per parameter instead of a column.

-- What a model's optimizer was given, by Keras's names; those of a learning rate's schedule begin
-- with 'learning_rate.'. What is not set has no row; a list has one per member.
CREATE TABLE optimizer_parameters (
    run      INTEGER NOT NULL,
    model    INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    position INTEGER NOT NULL,  -- within a list; else 0
    value    REAL    NOT NULL,  -- of a flag 0 or 1
    PRIMARY KEY (run, model, name, position),
    FOREIGN KEY (run, model) REFERENCES models
) STRICT, WITHOUT ROWID;

INSERT INTO optimizer_parameters (run, model, name, position, value)
    SELECT run, model, 'learning_rate', 0, learning_rate FROM models
    UNION ALL SELECT run, model, 'decay', 0, decay FROM models
    UNION ALL SELECT run, model, 'momentum', 0, momentum FROM models WHERE momentum IS NOT NULL
    UNION ALL SELECT run, model, 'nesterov', 0, nesterov FROM models WHERE nesterov IS NOT NULL
    UNION ALL SELECT run, model, 'rho', 0, rho FROM models WHERE rho IS NOT NULL
    UNION ALL SELECT run, model, 'epsilon', 0, epsilon FROM models WHERE epsilon IS NOT NULL
    UNION ALL SELECT run, model, 'centered', 0, centered FROM models WHERE centered IS NOT NULL
    UNION ALL SELECT run, model, 'beta_1', 0, beta_1 FROM models WHERE beta_1 IS NOT NULL
    UNION ALL SELECT run, model, 'beta_2', 0, beta_2 FROM models WHERE beta_2 IS NOT NULL
    UNION ALL SELECT run, model, 'amsgrad', 0, amsgrad FROM models WHERE amsgrad IS NOT NULL;

-- Without its list of three optimizers, the column is as it was.
ALTER TABLE models ADD COLUMN optimizer_name TEXT NOT NULL DEFAULT '';
UPDATE models SET optimizer_name = optimizer;
ALTER TABLE models DROP COLUMN optimizer;
ALTER TABLE models RENAME COLUMN optimizer_name TO optimizer;
-- Whether it has the formulas of tf.keras up to 2.10, as all had until now.
ALTER TABLE models ADD COLUMN is_legacy INTEGER NOT NULL DEFAULT 1 CHECK (is_legacy IN (0, 1));
-- What its learning rate follows; NULL for a number, with or without the legacy decay.
ALTER TABLE models ADD COLUMN schedule TEXT;

ALTER TABLE models DROP COLUMN learning_rate;
ALTER TABLE models DROP COLUMN decay;
ALTER TABLE models DROP COLUMN momentum;
ALTER TABLE models DROP COLUMN nesterov;
ALTER TABLE models DROP COLUMN rho;
ALTER TABLE models DROP COLUMN epsilon;
ALTER TABLE models DROP COLUMN centered;
ALTER TABLE models DROP COLUMN beta_1;
ALTER TABLE models DROP COLUMN beta_2;
ALTER TABLE models DROP COLUMN amsgrad;
