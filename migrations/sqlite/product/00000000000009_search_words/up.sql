-- The words of the full-text index in their order, to see how few begin with what is searched for.
CREATE VIRTUAL TABLE search_words USING fts5vocab(search, instance);
