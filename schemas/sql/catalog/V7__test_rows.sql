-- Rows that are in no shard, to test the best model on. Names in data_set_targets.classes may be null: of
-- the class of missing values, if the first one, else of padding.
ALTER TABLE data_sets ADD COLUMN test_rows INTEGER;  -- how many; NULL for none
ALTER TABLE data_sets ADD COLUMN test_digest TEXT;   -- sum of their digests
