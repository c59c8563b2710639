DROP INDEX order_dead_letters_redriven;
UPDATE order_dead_letters SET id = REPLACE(id, ':', '/');
ALTER TABLE order_dead_letters DROP COLUMN redriven;
ALTER TABLE order_dead_letters DROP COLUMN attempts;
