-- How exactly a model's products are computed: f32, or operands rounded to bf16.
ALTER TABLE models ADD COLUMN precision TEXT NOT NULL DEFAULT 'f32' CHECK (precision IN ('f32', 'bf16'));
