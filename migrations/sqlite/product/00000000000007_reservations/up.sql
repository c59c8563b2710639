CREATE TABLE reservations (
    id         TEXT   NOT NULL PRIMARY KEY,
    -- held, committed, released, lapsed, or moved to another reservation.
    state      TEXT   NOT NULL,
    -- Microseconds since 1970 in UTC; after this, what is held lapses.
    expires_at BIGINT NOT NULL,
    -- The reservation whose pieces this one has taken over.
    source     TEXT,
    -- JSON: products, quantities, and names and prices as they were.
    lines      TEXT   NOT NULL,
    changed_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX reservations_held ON reservations (expires_at) WHERE state = 'held';
CREATE INDEX reservations_ended ON reservations (changed_at) WHERE state IN ('released', 'lapsed', 'moved');
