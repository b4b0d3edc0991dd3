-- Data sets with several inputs and several targets, each a column of the shards.

-- What networks take.
CREATE TABLE data_set_inputs (
    data_set  TEXT    NOT NULL REFERENCES data_sets,
    position  INTEGER NOT NULL,  -- from 0
    name      TEXT    NOT NULL,  -- of the shards' column
    shape     TEXT    NOT NULL,  -- of one cached example, as a JSON list
    dtype     TEXT    NOT NULL CHECK (dtype IN ('u8', 'i32', 'f32')),
    encoding  TEXT    NOT NULL CHECK (encoding IN ('numbers', 'tokens', 'one hot')),
    parameter REAL    NOT NULL,  -- numbers are divided by it, tokens and places of ones below it
    PRIMARY KEY (data_set, position)
) STRICT, WITHOUT ROWID;

INSERT INTO data_set_inputs
    SELECT id, 0, 'x', shape, dtype, 'numbers', normalize FROM data_sets;

-- What networks learn.
CREATE TABLE data_set_targets (
    data_set TEXT    NOT NULL REFERENCES data_sets,
    position INTEGER NOT NULL,  -- from 0
    name     TEXT    NOT NULL,  -- of the shards' column
    width    INTEGER NOT NULL,  -- number of classes, or of values
    classes  TEXT,              -- names by index, as a JSON list; NULL for values
    PRIMARY KEY (data_set, position)
) STRICT, WITHOUT ROWID;

INSERT INTO data_set_targets
    SELECT id, 0, 'y', target_width, classes FROM data_sets;

-- A check of the old table names columns that it loses, so it is made anew. Migrations run with
-- foreign keys off, and end with a check of them.
CREATE TABLE new_data_sets (
    id          TEXT NOT NULL PRIMARY KEY,
    rows_digest TEXT NOT NULL,
    preparation TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO new_data_sets SELECT id, rows_digest, preparation FROM data_sets;
DROP TABLE data_sets;
ALTER TABLE new_data_sets RENAME TO data_sets;
