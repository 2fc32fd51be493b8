-- Orders of kind `drain` and `undrain` name a backend; a drain is in force from its answer to `ended_at`, as a freeze is.

ALTER TABLE orders ADD COLUMN backend TEXT; -- of a drain and an undrain
ALTER TABLE orders ADD COLUMN refuge TEXT;  -- of a drain: who takes the share, if that was said
