CREATE TABLE users (
    id         TEXT      NOT NULL PRIMARY KEY,
    username   TEXT      NOT NULL,
    email      TEXT      NOT NULL,
    -- The e-mail address in lower case: one account an address, however it is written.
    email_key  TEXT      NOT NULL UNIQUE,
    -- In UTC.
    created_at TIMESTAMP NOT NULL
);
