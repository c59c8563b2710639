DROP INDEX products_by_sku;
ALTER TABLE products DROP COLUMN deleted_at;
ALTER TABLE products DROP COLUMN updated_at;
ALTER TABLE products DROP COLUMN reserved;
ALTER TABLE products DROP COLUMN on_hand;
ALTER TABLE products DROP COLUMN details;
ALTER TABLE products DROP COLUMN sku_key;
ALTER TABLE products DROP COLUMN sku;
ALTER TABLE products DROP COLUMN category;
