-- What has happened, written with it in one transaction, and published afterwards.
CREATE TABLE user_outbox (
    position     BIGSERIAL NOT NULL PRIMARY KEY,
    kind         TEXT      NOT NULL,
    -- The CloudEvent, as it is published.
    event        TEXT      NOT NULL,
    -- Its place in the log: given in the order of publication, which no later commit changes.
    log_offset   BIGINT,
    published_at TIMESTAMP
);
CREATE UNIQUE INDEX user_outbox_by_offset ON user_outbox (log_offset) WHERE log_offset IS NOT NULL;
CREATE INDEX user_outbox_unpublished ON user_outbox (position) WHERE log_offset IS NULL;

-- How far each consumer of this process has read the log.
CREATE TABLE user_cursors (
    consumer   TEXT   NOT NULL PRIMARY KEY,
    log_offset BIGINT NOT NULL
);

-- Events that a consumer could not take, and why.
CREATE TABLE user_dead_letters (
    id         TEXT      NOT NULL PRIMARY KEY,
    consumer   TEXT      NOT NULL,
    event      TEXT      NOT NULL,
    reason     TEXT      NOT NULL,
    created_at TIMESTAMP NOT NULL
);
