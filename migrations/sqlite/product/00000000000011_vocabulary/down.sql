DROP TRIGGER listing_row_changed;
DROP TRIGGER listing_row_added;
ALTER TABLE listing DROP COLUMN worded;
DROP TABLE vocabulary_state;
DROP TABLE search_terms;
DROP TABLE vocabulary;
