-- The words that products have, or had, to see how few begin with what is searched for. To say which word comes next, the
-- full-text index goes through all products of the one before. The program fills it from the index.
CREATE TABLE vocabulary (word TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE VIRTUAL TABLE search_terms USING fts5vocab(search, col);

-- How often rows of the listing were written, and how often their words as well: a program of an earlier version writes rows
-- alone. Where the two differ, words may be missing.
CREATE TABLE vocabulary_state (rows BIGINT NOT NULL, worded BIGINT NOT NULL);
INSERT INTO vocabulary_state VALUES (1, 0);
CREATE TRIGGER listing_row_added AFTER INSERT ON listing BEGIN
    UPDATE vocabulary_state SET rows = rows + 1;
END;
CREATE TRIGGER listing_row_changed AFTER UPDATE OF name_key ON listing BEGIN
    UPDATE vocabulary_state SET rows = rows + 1;
END;
