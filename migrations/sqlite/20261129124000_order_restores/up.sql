-- Hash of caller and Idempotency-Key, and the caller: order.created carries them, so that a restore finds the keys again.
ALTER TABLE order_outbox ADD COLUMN key_id TEXT;
ALTER TABLE order_outbox ADD COLUMN caller TEXT;
-- An earlier attempt may have reached the third party although nobody knows its answer.
ALTER TABLE orders ADD COLUMN may_have_arrived INTEGER NOT NULL DEFAULT 0;
