DROP TRIGGER listing_row_changed;
DROP TRIGGER listing_row_added;
DROP TABLE vocabulary_state;
DROP TABLE search_terms;
DROP TABLE vocabulary;
