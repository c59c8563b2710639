DROP TABLE user_dead_letters;
DROP TABLE user_cursors;
DROP TABLE user_outbox;
