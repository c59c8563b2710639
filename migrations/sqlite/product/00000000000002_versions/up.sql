-- Counts the writes to a product, so that a writer can tell whether it has seen the last one.
ALTER TABLE products ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
