DROP TABLE IF EXISTS plugin_starts;
