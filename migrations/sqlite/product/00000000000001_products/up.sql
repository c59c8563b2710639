CREATE TABLE products (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    -- Minor units of the currency.
    price      BIGINT NOT NULL CHECK (price >= 0),
    -- Microseconds since 1970 in UTC.
    created_at BIGINT NOT NULL
) WITHOUT ROWID;

-- The order of the catalogue, newest first: a page is a range of this index.
CREATE INDEX products_by_age ON products (created_at DESC, id DESC);
