DROP TABLE order_dead_letters;
DROP TABLE order_cursors;
DROP TABLE order_outbox;
