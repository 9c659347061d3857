-- Times are milliseconds since 1970. Identifiers are VARBINARY: the default collation would hold E7 and e7 for equal.

CREATE TABLE IF NOT EXISTS meta (name VARBINARY(255) NOT NULL PRIMARY KEY, value LONGTEXT NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
-- Written to when one sync serves several transactions.
INSERT IGNORE INTO meta (name, value) VALUES ('group_commits', '0');

CREATE TABLE IF NOT EXISTS settings_epoch (id INTEGER NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL) ENGINE=InnoDB;
INSERT IGNORE INTO settings_epoch (id, epoch) VALUES (1, 1);

CREATE TABLE IF NOT EXISTS offsets (
    topic VARBINARY(64) NOT NULL, `partition` INTEGER NOT NULL,
    epoch BIGINT NOT NULL, version BIGINT NOT NULL,
    next_offset BIGINT NOT NULL, clock BIGINT NOT NULL, settings_epoch BIGINT NOT NULL,
    extra LONGBLOB NOT NULL,
    PRIMARY KEY (topic, `partition`)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS settings_uses (
    topic VARBINARY(64) NOT NULL, `partition` INTEGER NOT NULL, settings_epoch BIGINT NOT NULL,
    first_offset BIGINT NOT NULL, clock BIGINT NOT NULL,
    PRIMARY KEY (topic, `partition`, settings_epoch)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS windows (
    `partition` INTEGER NOT NULL, source VARBINARY(255) NOT NULL, state LONGBLOB NOT NULL,
    PRIMARY KEY (`partition`, source)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS entities (
    topic VARBINARY(64) NOT NULL, `partition` INTEGER NOT NULL, plugin VARBINARY(64) NOT NULL, scope VARBINARY(32) NOT NULL,
    entity VARBINARY(255) NOT NULL, state LONGBLOB NOT NULL, due BIGINT,
    PRIMARY KEY (topic, `partition`, plugin, scope, entity)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS lanes (lane VARBINARY(255) NOT NULL PRIMARY KEY, next_seq BIGINT NOT NULL) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS outbox (
    lane VARBINARY(255) NOT NULL, seq BIGINT NOT NULL, record_count INTEGER NOT NULL, payload LONGBLOB NOT NULL,
    PRIMARY KEY (lane, seq)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS http_calls (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    id VARBINARY(255) NOT NULL UNIQUE,
    effect LONGTEXT NOT NULL, attempts INTEGER NOT NULL, next_attempt_at BIGINT NOT NULL, error LONGTEXT,
    INDEX http_calls_due (next_attempt_at, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE IF NOT EXISTS dead_letters (
    id VARBINARY(255) NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL, status VARBINARY(16) NOT NULL, reason VARBINARY(255) NOT NULL, field LONGTEXT, message LONGTEXT NOT NULL,
    plugin VARBINARY(64), entity VARBINARY(320),
    topic VARBINARY(64) NOT NULL, `partition` INTEGER NOT NULL, `offset` BIGINT NOT NULL, clock BIGINT NOT NULL,
    `key` LONGBLOB, bytes LONGBLOB NOT NULL, attempts INTEGER NOT NULL, replay_requested_at BIGINT,
    INDEX dead_letters_at (at, id),
    INDEX dead_letters_status (status, at, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE IF NOT EXISTS sessions (
    id VARBINARY(255) NOT NULL PRIMARY KEY,
    employee_id VARBINARY(255) NOT NULL, store_id VARBINARY(255) NOT NULL, terminal_id VARBINARY(255) NOT NULL,
    business_day VARBINARY(10) NOT NULL,
    login_at BIGINT NOT NULL, logout_at BIGINT, seconds BIGINT NOT NULL, paid_seconds BIGINT NOT NULL,
    cause VARBINARY(32), flags VARBINARY(255) NOT NULL,
    INDEX sessions_login (login_at, id),
    INDEX sessions_employee (employee_id, login_at)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS alerts (
    id VARBINARY(255) NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL, rule_id VARBINARY(255) NOT NULL, severity VARBINARY(16) NOT NULL, scope VARBINARY(32) NOT NULL,
    entity VARBINARY(255) NOT NULL,
    store_id VARBINARY(255) NOT NULL, terminal_id VARBINARY(255), employee_id VARBINARY(255), shadow BOOLEAN NOT NULL,
    alert LONGTEXT NOT NULL, positions LONGBLOB NOT NULL, evidence LONGBLOB,
    status VARBINARY(16) NOT NULL, disposition VARBINARY(16), assignee VARBINARY(255), note LONGTEXT,
    INDEX alerts_at (at, id),
    INDEX alerts_status (status, at, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- Keyed by time first: thousands of rows of a batch then stand together, instead of each on a page of its own.
CREATE TABLE IF NOT EXISTS recommendations (
    id VARBINARY(255) NOT NULL,
    basket_id VARBINARY(255) NOT NULL, product_id VARBINARY(255) NOT NULL, recommended VARBINARY(255) NOT NULL,
    taken_up BOOLEAN NOT NULL, at BIGINT NOT NULL,
    PRIMARY KEY (at, id)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS age_prompts (
    id VARBINARY(255) NOT NULL PRIMARY KEY,
    basket_id VARBINARY(255) NOT NULL, store_id VARBINARY(255) NOT NULL, terminal_id VARBINARY(255) NOT NULL,
    employee_id VARBINARY(255) NOT NULL, minimum_age INTEGER NOT NULL, outcome VARBINARY(32) NOT NULL, at BIGINT NOT NULL,
    INDEX age_prompts_at (at, id)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS plugins (
    name VARBINARY(64) NOT NULL PRIMARY KEY,
    active BOOLEAN NOT NULL, revision BIGINT NOT NULL, eligibility LONGTEXT NOT NULL, settings LONGTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE IF NOT EXISTS documents (
    name VARBINARY(64) NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, value LONGTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE IF NOT EXISTS audit (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at BIGINT NOT NULL, actor VARBINARY(255) NOT NULL, action VARBINARY(64) NOT NULL, subject VARBINARY(255) NOT NULL,
    revision BIGINT, settings_epoch BIGINT, old_value LONGTEXT, new_value LONGTEXT, reason LONGTEXT,
    INDEX audit_subject (subject, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
