-- Sessions of people who have logged in. Of a session's secret and of the token's hash only digests are kept. Times are the store's.
CREATE TABLE login_sessions (
    id TEXT NOT NULL PRIMARY KEY, secret BLOB NOT NULL, token_name TEXT NOT NULL, token_digest BLOB NOT NULL,
    address TEXT NOT NULL, agent TEXT NOT NULL,
    created_at BIGINT NOT NULL, seen_at BIGINT NOT NULL, ends_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX login_sessions_token ON login_sessions (token_name, created_at, id);
CREATE INDEX login_sessions_end ON login_sessions (ends_at, id);
