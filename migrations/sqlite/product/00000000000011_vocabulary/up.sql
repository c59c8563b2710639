-- The words that products have, or had, to see how few begin with what is searched for. To say which word comes next, the
-- full-text index goes through all products of the one before.
CREATE TABLE vocabulary (word TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;

CREATE VIRTUAL TABLE search_terms USING fts5vocab(search, row);
INSERT INTO vocabulary SELECT term FROM search_terms;
DROP TABLE search_terms;
DROP TABLE search_words;
