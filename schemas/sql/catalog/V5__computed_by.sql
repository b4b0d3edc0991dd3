-- What computed a visit, since bits depend on it: the instructions of the CPU's kernels, or the GPU's
-- name. Empty for visits from before this was recorded.
ALTER TABLE visits ADD COLUMN computed_by TEXT NOT NULL DEFAULT '';
