-- The pieces that can be ordered; NULL if they are not counted.
ALTER TABLE products ADD COLUMN available BIGINT GENERATED ALWAYS AS (on_hand - reserved) VIRTUAL;
CREATE INDEX products_by_available ON products (available, id) WHERE on_hand IS NOT NULL AND deleted_at IS NULL;
