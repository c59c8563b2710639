DROP INDEX user_dead_letters_redriven;
UPDATE user_dead_letters SET id = REPLACE(id, ':', '/');
ALTER TABLE user_dead_letters DROP COLUMN redriven;
ALTER TABLE user_dead_letters DROP COLUMN attempts;
