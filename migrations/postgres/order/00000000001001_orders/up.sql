CREATE TABLE order_orders (
    id          TEXT      NOT NULL PRIMARY KEY,
    user_id     TEXT      NOT NULL,
    status      TEXT      NOT NULL,
    -- What was ordered, as the catalogue had it then: JSON.
    items       TEXT      NOT NULL,
    -- In minor units of the currency.
    total       BIGINT    NOT NULL,
    currency    TEXT      NOT NULL,
    -- As the customer gave them: JSON.
    ship_to     TEXT,
    contact     TEXT,
    created_at  TIMESTAMP NOT NULL,
    -- The date of created_at.
    day         TEXT      NOT NULL,
    expires_at  TIMESTAMP NOT NULL,
    paid_at     TIMESTAMP,
    -- Counts the order's states.
    version     BIGINT    NOT NULL,
    -- The number of the reservation that has its pieces, and how often somebody tried to pay it.
    reservation BIGINT    NOT NULL,
    attempts    BIGINT    NOT NULL,
    -- The payment at the provider, and by what it was last tried.
    intent      TEXT,
    method      TEXT,
    -- The step that has begun and not ended, and when somebody last worked at it.
    pending     TEXT,
    pending_at  TIMESTAMP,
    -- Whether a refund gives the pieces back.
    restock     BOOLEAN   NOT NULL DEFAULT FALSE
);
CREATE INDEX order_orders_by_user ON order_orders (user_id, id);
CREATE INDEX order_orders_by_status ON order_orders (status, id);
CREATE INDEX order_orders_by_day ON order_orders (day, status, total);
CREATE INDEX order_orders_by_expiry ON order_orders (expires_at) WHERE status = 'placed' AND pending IS NULL;
CREATE INDEX order_orders_by_step ON order_orders (pending_at) WHERE pending IS NOT NULL;

-- Requests with an Idempotency-Key, and the order that each leads to.
CREATE TABLE order_keys (
    user_id       TEXT      NOT NULL,
    key           TEXT      NOT NULL,
    -- The digest of the request.
    fingerprint   TEXT      NOT NULL,
    order_id      TEXT      NOT NULL,
    -- Until then the request counts as under way, unless it has a status.
    claimed_until TIMESTAMP NOT NULL,
    status        BIGINT,
    -- The fields that were refused, of 422: JSON.
    problem       TEXT,
    created_at    TIMESTAMP NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX order_keys_by_age ON order_keys (created_at);

-- What the sandbox plays: the payments of a provider.
CREATE TABLE order_sandbox (
    intent     TEXT      NOT NULL PRIMARY KEY,
    amount     BIGINT    NOT NULL,
    currency   TEXT      NOT NULL,
    state      TEXT      NOT NULL,
    -- How often the customer was charged, and got the money back.
    charges    BIGINT    NOT NULL,
    refunds    BIGINT    NOT NULL,
    -- The last attempt and its outcome, which it gets again.
    last_key   TEXT,
    declined   TEXT,
    created_at TIMESTAMP NOT NULL
);
