-- Where the rows of a run's data set came from, as it was when they were read.
CREATE TABLE run_sources (
    run INTEGER NOT NULL REFERENCES runs (id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    rows INTEGER NOT NULL,
    version TEXT NOT NULL,  -- of a file its length and time of change, of a database the snapshot
    way TEXT NOT NULL,      -- how it was read, where there are several ways
    digest TEXT,            -- of the inputs that were taken of it, equal to that of the shards' inputs; NULL for none
    PRIMARY KEY (run, position)
) STRICT;
