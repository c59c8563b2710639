ALTER TABLE recent_orders DROP COLUMN products;
