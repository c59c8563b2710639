DROP INDEX order_orders_by_expiry;
CREATE INDEX order_orders_by_expiry ON order_orders (expires_at) WHERE status = 'placed' AND pending IS NULL;
