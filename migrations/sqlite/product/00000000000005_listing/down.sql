DROP TABLE categories;
DROP TABLE search;
DROP TABLE listing;
CREATE INDEX products_by_age ON products (created_at DESC, id DESC);
DROP INDEX products_newest;
DROP INDEX products_unlisted;
DROP INDEX products_by_seq;
ALTER TABLE products DROP COLUMN seq;
ALTER TABLE products DROP COLUMN popularity;
