-- Where each partition of pos.events ended when a plugin was last switched on (a JSON list): what stands before is not for it.
CREATE TABLE IF NOT EXISTS plugin_starts (
    plugin VARBINARY(64) NOT NULL PRIMARY KEY, ends LONGTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
