DROP INDEX listing_by_stock;
