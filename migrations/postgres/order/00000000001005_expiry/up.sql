-- The state comes first, as on SQLite. Orders can be read while the new index is made; only its name is taken under a lock.
CREATE INDEX order_orders_expiring ON order_orders (status, expires_at) WHERE status = 'placed' AND pending IS NULL;
DROP INDEX order_orders_by_expiry;
ALTER INDEX order_orders_expiring RENAME TO order_orders_by_expiry;
