-- Who shares the work: processes with their heartbeats, and what each of them has taken for a while. Times are the store's.

CREATE TABLE processes (
    id TEXT NOT NULL PRIMARY KEY, started_at BIGINT NOT NULL, heartbeat_at BIGINT NOT NULL, info TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE leases (name TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, expires_at BIGINT NOT NULL) WITHOUT ROWID;
