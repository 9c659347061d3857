DROP TABLE plugin_starts;
