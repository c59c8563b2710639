DROP TABLE recent_orders;
