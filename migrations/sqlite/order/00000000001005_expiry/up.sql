-- The state comes first, so that a planner without statistics prefers it to the index of all orders in a state.
DROP INDEX order_orders_by_expiry;
CREATE INDEX order_orders_by_expiry ON order_orders (status, expires_at) WHERE status = 'placed' AND pending IS NULL;
