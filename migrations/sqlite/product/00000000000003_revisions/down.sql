ALTER TABLE products DROP COLUMN revision;
