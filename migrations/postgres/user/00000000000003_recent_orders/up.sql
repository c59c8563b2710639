-- The last orders of each user, by the events of the order role.
CREATE TABLE recent_orders (
    order_id   TEXT      NOT NULL PRIMARY KEY,
    user_id    TEXT      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Of the event that the row is from: an older one changes nothing.
    sequence   BIGINT    NOT NULL,
    status     TEXT      NOT NULL,
    -- In minor units of the currency.
    total      BIGINT    NOT NULL,
    currency   TEXT      NOT NULL,
    created_at TIMESTAMP NOT NULL
);
CREATE INDEX recent_orders_by_user ON recent_orders (user_id, order_id);
