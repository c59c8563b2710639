DROP TABLE order_deliveries;
DROP TABLE order_webhooks;
