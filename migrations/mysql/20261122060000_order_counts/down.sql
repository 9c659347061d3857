DROP TABLE IF EXISTS order_counts;
