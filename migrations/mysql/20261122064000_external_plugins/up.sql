-- Manifests of plugins in other languages, beside their rows in plugins; while_off: wait or skip; skip_before: a revision.
CREATE TABLE IF NOT EXISTS external_plugins (
    name VARBINARY(64) NOT NULL PRIMARY KEY, manifest LONGTEXT NOT NULL, `offset` BIGINT NOT NULL,
    while_off VARBINARY(16) NOT NULL, skip_before BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
-- Why the last manifest of a name was refused.
CREATE TABLE IF NOT EXISTS refused_manifests (
    name VARBINARY(255) NOT NULL PRIMARY KEY, why LONGTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
