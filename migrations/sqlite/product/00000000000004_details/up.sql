ALTER TABLE products ADD COLUMN category TEXT;
-- The stock keeping unit as it was given, and folded, for comparisons without regard to case.
ALTER TABLE products ADD COLUMN sku TEXT;
ALTER TABLE products ADD COLUMN sku_key TEXT;
-- JSON: description, tags, images and attributes, where there are any.
ALTER TABLE products ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
-- Pieces; NULL if they are not counted.
ALTER TABLE products ADD COLUMN on_hand BIGINT;
ALTER TABLE products ADD COLUMN reserved BIGINT NOT NULL DEFAULT 0;
-- Microseconds since 1970 in UTC; NULL for rows from before, which were changed last when they were added.
ALTER TABLE products ADD COLUMN updated_at BIGINT;
-- When it was removed. The row stays, so that nobody else gets its id, and what is reserved can be given back.
ALTER TABLE products ADD COLUMN deleted_at BIGINT;

CREATE UNIQUE INDEX products_by_sku ON products (sku_key) WHERE sku_key IS NOT NULL AND deleted_at IS NULL;
