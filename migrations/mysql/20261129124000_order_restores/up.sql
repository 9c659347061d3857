-- Hash of caller and Idempotency-Key, and the caller: order.created carries them, so that a restore finds the keys again.
-- Only where the columns are missing: each statement commits by itself, and the migration may be run again after it.
SET @known = (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'order_outbox' AND column_name = 'key_id');
SET @change = IF(@known = 0,
    'ALTER TABLE order_outbox ADD COLUMN key_id VARBINARY(64), ADD COLUMN caller VARBINARY(400)', 'DO 0');
PREPARE change_order_outbox FROM @change;
EXECUTE change_order_outbox;
DEALLOCATE PREPARE change_order_outbox;
-- An earlier attempt may have reached the third party although nobody knows its answer.
SET @known = (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'orders' AND column_name = 'may_have_arrived');
SET @change = IF(@known = 0, 'ALTER TABLE orders ADD COLUMN may_have_arrived BOOLEAN NOT NULL DEFAULT 0', 'DO 0');
PREPARE change_orders FROM @change;
EXECUTE change_orders;
DEALLOCATE PREPARE change_orders;
