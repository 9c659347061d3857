-- Sessions of people who have logged in. Of a session's secret and of the token's hash only digests are kept. Times are the store's.
CREATE TABLE IF NOT EXISTS login_sessions (
    id VARBINARY(64) NOT NULL PRIMARY KEY, secret VARBINARY(64) NOT NULL,
    token_name VARBINARY(255) NOT NULL, token_digest VARBINARY(64) NOT NULL,
    address VARBINARY(64) NOT NULL, agent VARBINARY(255) NOT NULL,
    created_at BIGINT NOT NULL, seen_at BIGINT NOT NULL, ends_at BIGINT NOT NULL,
    INDEX login_sessions_token (token_name, created_at, id),
    INDEX login_sessions_end (ends_at, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
