-- An argon2id hash in PHC's form; absent for who registered without a password, and cannot log in.
ALTER TABLE users ADD COLUMN password_hash TEXT;
-- What the user is allowed, by comma.
ALTER TABLE users ADD COLUMN roles TEXT NOT NULL DEFAULT 'customer';
ALTER TABLE users ADD COLUMN disabled BOOLEAN NOT NULL DEFAULT FALSE;
-- Counts how often all tokens of the user have ended before their time; each says of which generation it is.
ALTER TABLE users ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;

-- One row for each time that a user logged in, for as long as the refresh tokens that follow from it.
CREATE TABLE sessions (
    id         TEXT      NOT NULL PRIMARY KEY,
    user_id    TEXT      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The SHA-256 digest of what all its refresh tokens have in common, and nothing else tells.
    family     TEXT      NOT NULL UNIQUE,
    -- The SHA-256 digest of the rest of the only refresh token that is good.
    token_hash TEXT      NOT NULL,
    created_at TIMESTAMP NOT NULL,
    used_at    TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Users whose access tokens end before their time; of interest for as long as such a token may live. It
-- outlives the account.
CREATE TABLE revocations (
    user_id    TEXT      NOT NULL PRIMARY KEY,
    -- Tokens of generations before this one are no good.
    generation BIGINT    NOT NULL,
    created_at TIMESTAMP NOT NULL
);
