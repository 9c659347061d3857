DROP TABLE IF EXISTS order_timeline;
DROP TABLE IF EXISTS order_dispatch;
DROP TABLE IF EXISTS order_deliveries;
DROP TABLE IF EXISTS order_publishing;
DROP TABLE IF EXISTS order_outbox;
DROP TABLE IF EXISTS order_keys;
DROP TABLE IF EXISTS orders;
