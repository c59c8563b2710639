-- Drawn at random by each write: a version alone comes again when a product is removed and added again, or is
-- restored from a backup. 0 is that of rows from before.
ALTER TABLE products ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
