-- The place of a product in the listing: microseconds since 1970, shifted left by eleven bits, and a number among the
-- products of the same microsecond. NULL until it is listed.
ALTER TABLE products ADD COLUMN seq BIGINT;
CREATE UNIQUE INDEX products_by_seq ON products (seq) WHERE seq IS NOT NULL;
CREATE INDEX products_unlisted ON products (id) WHERE seq IS NULL AND deleted_at IS NULL;
-- How many pieces of it were ordered.
ALTER TABLE products ADD COLUMN popularity BIGINT NOT NULL DEFAULT 0;
-- Instead of products_by_age, which also has those that were removed.
CREATE INDEX products_newest ON products (created_at DESC, id DESC) WHERE deleted_at IS NULL;
DROP INDEX products_by_age;

-- What products are filtered and sorted by, in narrow rows, of those that were not removed.
CREATE TABLE listing (
    seq        INTEGER NOT NULL PRIMARY KEY,
    id         TEXT    NOT NULL,
    price      BIGINT  NOT NULL,
    category   TEXT,
    -- The name without case and accents.
    name_key   TEXT    NOT NULL,
    in_stock   INTEGER NOT NULL,
    popularity BIGINT  NOT NULL DEFAULT 0
);
CREATE INDEX listing_by_price ON listing (price, seq);
CREATE INDEX listing_by_name ON listing (name_key, seq DESC);
CREATE INDEX listing_by_popularity ON listing (popularity, seq);
CREATE INDEX listing_by_category ON listing (category, seq) WHERE category IS NOT NULL;

-- The words of products by their place. The program cuts them; the tokenizer separates them at spaces alone.
CREATE VIRTUAL TABLE search USING fts5 (
    name, more, facets,
    content = '', contentless_delete = 1, tokenize = 'ascii', prefix = '1 2 3', detail = column
);

-- How many products of the listing each category has.
CREATE TABLE categories (
    name     TEXT    NOT NULL PRIMARY KEY,
    products INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER listing_added AFTER INSERT ON listing WHEN new.category IS NOT NULL BEGIN
    INSERT INTO categories VALUES (new.category, 1) ON CONFLICT (name) DO UPDATE SET products = products + 1;
END;
CREATE TRIGGER listing_removed AFTER DELETE ON listing WHEN old.category IS NOT NULL BEGIN
    UPDATE categories SET products = products - 1 WHERE name = old.category;
    DELETE FROM categories WHERE name = old.category AND products = 0;
END;
CREATE TRIGGER listing_moved AFTER UPDATE OF category ON listing WHEN new.category IS NOT old.category BEGIN
    UPDATE categories SET products = products - 1 WHERE name = old.category;
    DELETE FROM categories WHERE name = old.category AND products = 0;
    INSERT INTO categories SELECT new.category, 1 WHERE new.category IS NOT NULL
        ON CONFLICT (name) DO UPDATE SET products = products + 1;
END;
