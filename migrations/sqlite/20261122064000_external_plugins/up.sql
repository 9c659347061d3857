-- Manifests of plugins in other languages, beside their rows in plugins; while_off: wait or skip; skip_before: a revision.
CREATE TABLE external_plugins (
    name TEXT NOT NULL PRIMARY KEY, manifest TEXT NOT NULL, "offset" INTEGER NOT NULL, while_off TEXT NOT NULL,
    skip_before INTEGER NOT NULL
) WITHOUT ROWID;
-- Why the last manifest of a name was refused.
CREATE TABLE refused_manifests (name TEXT NOT NULL PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
