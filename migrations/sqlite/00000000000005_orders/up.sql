-- Orders. `document` is what the till sent, in canonical JSON; ids begin with their time, so their order is that of acceptance.
CREATE TABLE orders (
    id TEXT NOT NULL PRIMARY KEY,
    store_id TEXT NOT NULL, terminal_id TEXT NOT NULL, status TEXT NOT NULL, document TEXT NOT NULL,
    created_at BIGINT NOT NULL, published_at BIGINT, processed_at BIGINT, attempts INTEGER NOT NULL
);
CREATE INDEX orders_status ON orders (status, id);
CREATE INDEX orders_terminal ON orders (terminal_id, id);

-- Idempotency keys; `id` is a hash of caller and key. `answer` is what the first request was answered, for those that follow.
CREATE TABLE order_keys (
    id TEXT NOT NULL PRIMARY KEY,
    caller TEXT NOT NULL, idempotency_key TEXT NOT NULL, fingerprint TEXT NOT NULL, order_id TEXT NOT NULL,
    status INTEGER NOT NULL, answer TEXT NOT NULL, created_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX order_keys_created ON order_keys (created_at, id);

-- Orders that are not on the bus. Rows become visible out of the order of `seq`, so a batch number is given before they are sent.
CREATE TABLE order_outbox (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    order_id TEXT NOT NULL, batch BIGINT, parked_at BIGINT, parked_reason TEXT
);
CREATE INDEX order_outbox_batch ON order_outbox (batch, seq);

-- One row: who publishes, until when, and the last batch number that was given.
CREATE TABLE order_publishing (
    id INTEGER NOT NULL PRIMARY KEY, owner TEXT NOT NULL, lease_until BIGINT NOT NULL, last_batch BIGINT NOT NULL
);
INSERT INTO order_publishing (id, owner, lease_until, last_batch) VALUES (1, '', 0, 0);

-- Orders on their way to the third party. Gone once the order has succeeded or failed.
CREATE TABLE order_deliveries (
    order_id TEXT NOT NULL PRIMARY KEY,
    "partition" INTEGER NOT NULL, "offset" BIGINT NOT NULL, published_at BIGINT NOT NULL,
    attempts INTEGER NOT NULL, counted INTEGER NOT NULL, next_attempt_at BIGINT NOT NULL,
    claim BIGINT, held_epoch BIGINT, last_error TEXT
) WITHOUT ROWID;
CREATE INDEX order_deliveries_due ON order_deliveries (next_attempt_at, order_id);

-- One row: until when the rate that all dispatchers share is used up, in microseconds since 1970.
CREATE TABLE order_dispatch (id INTEGER NOT NULL PRIMARY KEY, used_until BIGINT NOT NULL);
INSERT INTO order_dispatch (id, used_until) VALUES (1, 0);

CREATE TABLE order_timeline (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    order_id TEXT NOT NULL, at BIGINT NOT NULL, kind TEXT NOT NULL,
    attempt INTEGER, status INTEGER, duration_ms BIGINT, message TEXT
);
CREATE INDEX order_timeline_order ON order_timeline (order_id, id);
