DROP INDEX products_by_available;
ALTER TABLE products DROP COLUMN available;
