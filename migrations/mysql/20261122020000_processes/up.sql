-- Who shares the work: processes with their heartbeats, and what each of them has taken for a while. Times are the server's.

CREATE TABLE IF NOT EXISTS processes (
    id VARBINARY(64) NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL, heartbeat_at BIGINT NOT NULL, info LONGTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE IF NOT EXISTS leases (
    name VARBINARY(255) NOT NULL PRIMARY KEY, owner VARBINARY(64) NOT NULL, expires_at BIGINT NOT NULL
) ENGINE=InnoDB;
