-- The events of paid orders that were counted, in the transaction in which they were.
CREATE TABLE inbox (
    event_id   TEXT   NOT NULL PRIMARY KEY,
    -- Microseconds since 1970 in UTC.
    created_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX inbox_by_age ON inbox (created_at);

-- How many paid orders have both products. Each pair is there both ways round.
CREATE TABLE bought_with (
    product TEXT   NOT NULL,
    other   TEXT   NOT NULL,
    orders  BIGINT NOT NULL,
    PRIMARY KEY (product, other)
) WITHOUT ROWID;
CREATE INDEX bought_with_most ON bought_with (product, orders, other);
