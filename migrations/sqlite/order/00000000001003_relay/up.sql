-- Which process publishes events, until when by the database's clock: one row while there is any.
CREATE TABLE order_relay (
    id         BIGINT NOT NULL PRIMARY KEY,
    holder     TEXT   NOT NULL,
    -- In milliseconds since 1970.
    expires_at BIGINT NOT NULL
);
