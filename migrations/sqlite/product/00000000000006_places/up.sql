-- What is in stock, or is not, by place.
CREATE INDEX listing_by_stock ON listing (in_stock, seq);
-- A category in each order.
CREATE INDEX listing_by_category_price ON listing (category, price, seq) WHERE category IS NOT NULL;
CREATE INDEX listing_by_category_name ON listing (category, name_key, seq DESC) WHERE category IS NOT NULL;
CREATE INDEX listing_by_category_popularity ON listing (category, popularity, seq) WHERE category IS NOT NULL;

-- The program makes the listing anew: among products of one microsecond, places are in the order of ids now, what was removed
-- has none, and words have no invisible characters.
DELETE FROM listing;
INSERT INTO search (search) VALUES ('delete-all');
UPDATE products SET seq = NULL WHERE seq IS NOT NULL;
