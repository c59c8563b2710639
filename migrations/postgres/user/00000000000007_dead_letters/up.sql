-- How often the consumer could not take it, and whether it is to take it again.
ALTER TABLE user_dead_letters ADD COLUMN attempts BIGINT NOT NULL DEFAULT 1;
ALTER TABLE user_dead_letters ADD COLUMN redriven BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE user_dead_letters SET id = REPLACE(id, '/', ':');
CREATE INDEX user_dead_letters_redriven ON user_dead_letters (consumer, id) WHERE redriven;
