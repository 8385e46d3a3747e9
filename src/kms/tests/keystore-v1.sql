-- The keystore's tables, version 1. Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: the number of the last change to any key. Caches ask for what changed since theirs.
CREATE TABLE changes (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO changes VALUES (1, 0);

-- The root key, wrapped once for each protector.
CREATE TABLE protectors (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    salt BLOB NOT NULL CHECK (length(salt) = 16),
    -- The cost of Argon2id; NULL for a key file.
    memory_kib INTEGER,
    passes INTEGER,
    lanes INTEGER,
    sealed_root BLOB NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    usage TEXT NOT NULL,
    origin TEXT NOT NULL,
    manager TEXT NOT NULL,
    state TEXT NOT NULL,
    description TEXT NOT NULL,
    created INTEGER NOT NULL,
    rotation_enabled INTEGER NOT NULL CHECK (rotation_enabled IN (0, 1)),
    rotation_period_days INTEGER NOT NULL,
    -- What the period counts from: when rotation was enabled, or the last automatic rotation.
    rotation_since INTEGER NOT NULL,
    -- The number of the key's last change.
    changed INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_by_change ON keys (changed);

-- The versions of a key's secret; the one of the highest generation is current.
CREATE TABLE materials (
    key TEXT NOT NULL REFERENCES keys (id),
    generation INTEGER NOT NULL CHECK (generation > 0),
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    sealed BLOB NOT NULL,
    created INTEGER NOT NULL,
    -- NULL for a key's first material.
    rotation_type TEXT,
    PRIMARY KEY (key, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE aliases (
    name TEXT PRIMARY KEY,
    key TEXT NOT NULL REFERENCES keys (id),
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_key ON aliases (key);
