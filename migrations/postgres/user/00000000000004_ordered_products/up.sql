-- The ids of the products of an order, at most the first 20, separated by commas.
ALTER TABLE recent_orders ADD COLUMN products TEXT NOT NULL DEFAULT '';
