DROP TABLE revocations;
DROP TABLE sessions;
ALTER TABLE users DROP COLUMN generation;
ALTER TABLE users DROP COLUMN disabled;
ALTER TABLE users DROP COLUMN roles;
ALTER TABLE users DROP COLUMN password_hash;
