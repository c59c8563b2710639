DROP TABLE user_relay;
