-- What the keystore is made of, whatever the version of its keys. Times are milliseconds since
-- 1970-01-01 UTC.

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
