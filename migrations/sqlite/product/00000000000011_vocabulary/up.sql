-- The words that products have, or had, to see how few begin with what is searched for. To say which word comes next, the
-- full-text index goes through all products of the one before. The program fills it from the index.
-- search_words stays: an earlier version searches with it.
CREATE TABLE vocabulary (word TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE VIRTUAL TABLE search_terms USING fts5vocab(search, col);
CREATE TABLE vocabulary_state (complete BOOLEAN NOT NULL);
INSERT INTO vocabulary_state VALUES (FALSE);

-- A program that adds the words of a row changes this with each write; one of an earlier version does not.
ALTER TABLE listing ADD COLUMN worded BIGINT NOT NULL DEFAULT 0;
CREATE TRIGGER listing_row_added AFTER INSERT ON listing WHEN new.worded = 0 BEGIN
    UPDATE vocabulary_state SET complete = FALSE;
END;
CREATE TRIGGER listing_row_changed AFTER UPDATE OF name_key ON listing WHEN new.worded = old.worded BEGIN
    UPDATE vocabulary_state SET complete = FALSE;
END;
