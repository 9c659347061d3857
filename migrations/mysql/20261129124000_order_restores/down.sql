ALTER TABLE orders DROP COLUMN may_have_arrived;
ALTER TABLE order_outbox DROP COLUMN caller;
ALTER TABLE order_outbox DROP COLUMN key_id;
