-- Where each partition of pos.events ended when a plugin was last switched on (a JSON list): what stands before is not for it.
CREATE TABLE plugin_starts (plugin TEXT NOT NULL PRIMARY KEY, ends TEXT NOT NULL) WITHOUT ROWID;
