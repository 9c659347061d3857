DROP TABLE order_timeline;
DROP TABLE order_dispatch;
DROP TABLE order_deliveries;
DROP TABLE order_publishing;
DROP TABLE order_outbox;
DROP TABLE order_keys;
DROP TABLE orders;
