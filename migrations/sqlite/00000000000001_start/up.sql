-- Times are milliseconds since 1970. Text is compared as bytes (BINARY, SQLite's default collation).
-- Tables with wide keys whose rows are rewritten often are WITHOUT ROWID: one B-tree to touch instead of two.

CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- Written to when one sync serves several transactions.
INSERT INTO meta (name, value) VALUES ('group_commits', '0');

CREATE TABLE settings_epoch (id INTEGER NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL);
INSERT INTO settings_epoch (id, epoch) VALUES (1, 1);

CREATE TABLE offsets (
    topic TEXT NOT NULL, "partition" INTEGER NOT NULL,
    epoch BIGINT NOT NULL, version BIGINT NOT NULL,
    next_offset BIGINT NOT NULL, clock BIGINT NOT NULL, settings_epoch BIGINT NOT NULL,
    extra BLOB NOT NULL,
    PRIMARY KEY (topic, "partition")
) WITHOUT ROWID;

CREATE TABLE settings_uses (
    topic TEXT NOT NULL, "partition" INTEGER NOT NULL, settings_epoch BIGINT NOT NULL,
    first_offset BIGINT NOT NULL, clock BIGINT NOT NULL,
    PRIMARY KEY (topic, "partition", settings_epoch)
) WITHOUT ROWID;

CREATE TABLE windows (
    "partition" INTEGER NOT NULL, source TEXT NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY ("partition", source)
) WITHOUT ROWID;

CREATE TABLE entities (
    topic TEXT NOT NULL, "partition" INTEGER NOT NULL, plugin TEXT NOT NULL, scope TEXT NOT NULL, entity TEXT NOT NULL,
    state BLOB NOT NULL, due BIGINT,
    PRIMARY KEY (topic, "partition", plugin, scope, entity)
) WITHOUT ROWID;

CREATE TABLE lanes (lane TEXT NOT NULL PRIMARY KEY, next_seq BIGINT NOT NULL) WITHOUT ROWID;

CREATE TABLE outbox (
    lane TEXT NOT NULL, seq BIGINT NOT NULL, record_count INTEGER NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (lane, seq)
);

CREATE TABLE http_calls (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    effect TEXT NOT NULL, attempts INTEGER NOT NULL, next_attempt_at BIGINT NOT NULL, error TEXT
);
CREATE INDEX http_calls_due ON http_calls (next_attempt_at, seq);

CREATE TABLE dead_letters (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, field TEXT, message TEXT NOT NULL,
    plugin TEXT, entity TEXT,
    topic TEXT NOT NULL, "partition" INTEGER NOT NULL, "offset" BIGINT NOT NULL, clock BIGINT NOT NULL,
    "key" BLOB, bytes BLOB NOT NULL, attempts INTEGER NOT NULL, replay_requested_at BIGINT
);
CREATE INDEX dead_letters_at ON dead_letters (at, id);
CREATE INDEX dead_letters_status ON dead_letters (status, at, id);

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    employee_id TEXT NOT NULL, store_id TEXT NOT NULL, terminal_id TEXT NOT NULL, business_day TEXT NOT NULL,
    login_at BIGINT NOT NULL, logout_at BIGINT, seconds BIGINT NOT NULL, paid_seconds BIGINT NOT NULL,
    cause TEXT, flags TEXT NOT NULL
);
CREATE INDEX sessions_login ON sessions (login_at, id);
CREATE INDEX sessions_employee ON sessions (employee_id, login_at);

CREATE TABLE alerts (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL, rule_id TEXT NOT NULL, severity TEXT NOT NULL, scope TEXT NOT NULL, entity TEXT NOT NULL,
    store_id TEXT NOT NULL, terminal_id TEXT, employee_id TEXT, shadow BOOLEAN NOT NULL,
    alert TEXT NOT NULL, positions BLOB NOT NULL, evidence BLOB,
    status TEXT NOT NULL, disposition TEXT, assignee TEXT, note TEXT
);
CREATE INDEX alerts_at ON alerts (at, id);
CREATE INDEX alerts_status ON alerts (status, at, id);
CREATE INDEX alerts_without_evidence ON alerts (at, id) WHERE evidence IS NULL;

-- Keyed by time first: thousands of rows of a batch then stand together, instead of each on a page of its own.
CREATE TABLE recommendations (
    id TEXT NOT NULL,
    basket_id TEXT NOT NULL, product_id TEXT NOT NULL, recommended TEXT NOT NULL, taken_up BOOLEAN NOT NULL, at BIGINT NOT NULL,
    PRIMARY KEY (at, id)
) WITHOUT ROWID;

CREATE TABLE age_prompts (
    id TEXT NOT NULL PRIMARY KEY,
    basket_id TEXT NOT NULL, store_id TEXT NOT NULL, terminal_id TEXT NOT NULL, employee_id TEXT NOT NULL,
    minimum_age INTEGER NOT NULL, outcome TEXT NOT NULL, at BIGINT NOT NULL
);
CREATE INDEX age_prompts_at ON age_prompts (at, id);

CREATE TABLE plugins (
    name TEXT NOT NULL PRIMARY KEY,
    active BOOLEAN NOT NULL, revision BIGINT NOT NULL, eligibility TEXT NOT NULL, settings TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE documents (name TEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
    revision BIGINT, settings_epoch BIGINT, old_value TEXT, new_value TEXT, reason TEXT
);
CREATE INDEX audit_subject ON audit (subject, id);
