-- What is in stock, or is not, by place.
CREATE INDEX listing_by_stock ON listing (in_stock, seq);

-- The program makes the listing anew: among products of one microsecond, places are in the order of ids now, what was removed
-- has none, and words have no invisible characters.
DELETE FROM listing;
INSERT INTO search (search) VALUES ('delete-all');
UPDATE products SET seq = NULL WHERE seq IS NOT NULL;
