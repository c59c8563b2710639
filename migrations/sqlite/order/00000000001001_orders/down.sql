DROP TABLE order_sandbox;
DROP TABLE order_keys;
DROP TABLE order_orders;
