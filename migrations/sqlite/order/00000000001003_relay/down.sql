DROP TABLE order_relay;
