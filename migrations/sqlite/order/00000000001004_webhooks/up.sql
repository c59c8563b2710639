-- Who is told of events.
CREATE TABLE order_webhooks (
    id          TEXT      NOT NULL PRIMARY KEY,
    url         TEXT      NOT NULL,
    -- The types of events, a JSON array; all of them without.
    events      TEXT,
    description TEXT,
    -- What signs; the one before signs, too, until then.
    secret      TEXT      NOT NULL,
    old_secret  TEXT,
    old_until   TIMESTAMP,
    enabled     BOOLEAN   NOT NULL,
    created_at  TIMESTAMP NOT NULL,
    -- The first failure since it has last taken an event, if there is one.
    failing_since TIMESTAMP
) WITHOUT ROWID;

-- What each of them is sent, or was.
CREATE TABLE order_deliveries (
    webhook_id  TEXT      NOT NULL REFERENCES order_webhooks (id) ON DELETE CASCADE,
    event_id    TEXT      NOT NULL,
    kind        TEXT      NOT NULL,
    subject     TEXT      NOT NULL,
    sequence    BIGINT    NOT NULL,
    -- The CloudEvent, as it is sent.
    event       TEXT      NOT NULL,
    -- pending, delivered or failed.
    status      TEXT      NOT NULL,
    attempts    BIGINT    NOT NULL,
    -- When it may be tried, if it is pending. Who tries it puts this off, so that others leave it alone.
    due_at      TIMESTAMP NOT NULL,
    -- How the last attempt ended.
    http_status BIGINT,
    error       TEXT,
    created_at  TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    PRIMARY KEY (webhook_id, event_id)
) WITHOUT ROWID;
CREATE INDEX order_deliveries_due ON order_deliveries (webhook_id, due_at) WHERE status = 'pending';
CREATE INDEX order_deliveries_by_subject ON order_deliveries (webhook_id, subject, sequence);
CREATE INDEX order_deliveries_failed ON order_deliveries (webhook_id, event_id) WHERE status = 'failed';
CREATE INDEX order_deliveries_by_age ON order_deliveries (finished_at);
