-- Orders. `document` is what the till sent, in canonical JSON; ids begin with their time, so their order is that of acceptance.
CREATE TABLE IF NOT EXISTS orders (
    id VARBINARY(64) NOT NULL PRIMARY KEY,
    store_id VARBINARY(255) NOT NULL, terminal_id VARBINARY(255) NOT NULL, status VARBINARY(16) NOT NULL,
    document LONGTEXT NOT NULL,
    created_at BIGINT NOT NULL, published_at BIGINT, processed_at BIGINT, attempts INTEGER NOT NULL,
    INDEX orders_status (status, id),
    INDEX orders_terminal (terminal_id, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- Idempotency keys; `id` is a hash of caller and key. `answer` is what the first request was answered, for those that follow.
CREATE TABLE IF NOT EXISTS order_keys (
    id VARBINARY(64) NOT NULL PRIMARY KEY,
    caller VARBINARY(400) NOT NULL, idempotency_key VARBINARY(255) NOT NULL, fingerprint VARBINARY(64) NOT NULL,
    order_id VARBINARY(64) NOT NULL, status INTEGER NOT NULL, answer LONGTEXT NOT NULL, created_at BIGINT NOT NULL,
    INDEX order_keys_created (created_at, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- Orders that are not on the bus. Rows become visible out of the order of `seq`, so a batch number is given before they are sent.
CREATE TABLE IF NOT EXISTS order_outbox (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    order_id VARBINARY(64) NOT NULL, batch BIGINT, parked_at BIGINT, parked_reason LONGTEXT,
    INDEX order_outbox_batch (batch, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- One row: who publishes, until when, and the last batch number that was given.
CREATE TABLE IF NOT EXISTS order_publishing (
    id INTEGER NOT NULL PRIMARY KEY, owner VARBINARY(64) NOT NULL, lease_until BIGINT NOT NULL, last_batch BIGINT NOT NULL
) ENGINE=InnoDB;
INSERT IGNORE INTO order_publishing (id, owner, lease_until, last_batch) VALUES (1, '', 0, 0);

-- Orders on their way to the third party. Gone once the order has succeeded or failed.
CREATE TABLE IF NOT EXISTS order_deliveries (
    order_id VARBINARY(64) NOT NULL PRIMARY KEY,
    `partition` INTEGER NOT NULL, `offset` BIGINT NOT NULL, published_at BIGINT NOT NULL,
    attempts INTEGER NOT NULL, counted INTEGER NOT NULL, next_attempt_at BIGINT NOT NULL,
    claim BIGINT, held_epoch BIGINT, last_error LONGTEXT,
    INDEX order_deliveries_due (next_attempt_at, order_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- One row: until when the rate that all dispatchers share is used up, in microseconds since 1970.
CREATE TABLE IF NOT EXISTS order_dispatch (id INTEGER NOT NULL PRIMARY KEY, used_until BIGINT NOT NULL) ENGINE=InnoDB;
INSERT IGNORE INTO order_dispatch (id, used_until) VALUES (1, 0);

CREATE TABLE IF NOT EXISTS order_timeline (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    order_id VARBINARY(64) NOT NULL, at BIGINT NOT NULL, kind VARBINARY(16) NOT NULL,
    attempt INTEGER, status INTEGER, duration_ms BIGINT, message LONGTEXT,
    INDEX order_timeline_order (order_id, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
