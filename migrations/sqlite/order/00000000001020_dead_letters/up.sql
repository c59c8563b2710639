-- How often the consumer could not take it, and whether it is to take it again.
ALTER TABLE order_dead_letters ADD COLUMN attempts BIGINT NOT NULL DEFAULT 1;
ALTER TABLE order_dead_letters ADD COLUMN redriven BOOLEAN NOT NULL DEFAULT 0;
UPDATE order_dead_letters SET id = REPLACE(id, '/', ':');
CREATE INDEX order_dead_letters_redriven ON order_dead_letters (consumer, id) WHERE redriven;
