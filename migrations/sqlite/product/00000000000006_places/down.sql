DROP INDEX listing_by_category_price;
DROP INDEX listing_by_category_name;
DROP INDEX listing_by_category_popularity;
DROP INDEX listing_by_stock;
