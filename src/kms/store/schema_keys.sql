-- Keys and what belongs to them, version 2. Times are milliseconds since 1970-01-01 UTC.

-- What the keys of one id in several Regions share. A single-Region key is the only one of its set.
CREATE TABLE key_sets (
    id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    usage TEXT NOT NULL,
    origin TEXT NOT NULL,
    -- The Region of the primary key, which may be in another keystore; NULL for a single-Region key.
    primary_region TEXT,
    rotation_enabled INTEGER NOT NULL CHECK (rotation_enabled IN (0, 1)),
    rotation_period_days INTEGER NOT NULL,
    -- What the period counts from: when rotation was enabled, or the last automatic rotation.
    rotation_since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    region TEXT NOT NULL,
    id TEXT NOT NULL REFERENCES key_sets (id),
    manager TEXT NOT NULL,
    state TEXT NOT NULL,
    description TEXT NOT NULL,
    created INTEGER NOT NULL,
    -- When the key is destroyed; NULL unless it is pending deletion.
    deletion_date INTEGER,
    -- The waiting period before that, in days; NULL unless the deletion was asked for.
    deletion_window INTEGER,
    -- The key policy; NULL for the default one.
    policy TEXT,
    -- From when uses are known, and the last one.
    tracked_since INTEGER NOT NULL,
    used_operation TEXT,
    used INTEGER,
    used_event BLOB,
    -- The number of the key's last change.
    changed INTEGER NOT NULL,
    UNIQUE (id, region)
) STRICT;
CREATE INDEX keys_by_change ON keys (changed);

-- Keys that are gone, by the number of the change, for the caches of running processes.
CREATE TABLE destroyed (
    number INTEGER NOT NULL,
    region TEXT NOT NULL,
    key TEXT NOT NULL
) STRICT;
CREATE INDEX destroyed_by_number ON destroyed (number);

-- The versions of a key's secret.
CREATE TABLE materials (
    key TEXT NOT NULL REFERENCES key_sets (id),
    -- Empty: of all Regions' keys. Imported material is of one Region's key.
    region TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation > 0),
    id BLOB NOT NULL CHECK (length(id) = 32),
    -- CURRENT, NON_CURRENT or PENDING_ROTATION.
    state TEXT NOT NULL,
    -- NULL once imported material was deleted or has expired.
    sealed BLOB,
    created INTEGER NOT NULL,
    -- When the material became current by a rotation; NULL for a key's first one.
    rotated INTEGER,
    rotation_type TEXT,
    -- Of imported material alone: its end, its description, and what tells the same again.
    valid_to INTEGER,
    description TEXT,
    fingerprint BLOB,
    PRIMARY KEY (key, region, generation),
    UNIQUE (key, region, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE aliases (
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (region, name),
    FOREIGN KEY (key, region) REFERENCES keys (id, region)
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_key ON aliases (key, region);

CREATE TABLE tags (
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (key, region, name),
    FOREIGN KEY (key, region) REFERENCES keys (id, region)
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    grantee TEXT NOT NULL,
    retiring TEXT,
    issuer TEXT NOT NULL,
    -- The whole grant, as JSON.
    document TEXT NOT NULL,
    FOREIGN KEY (key, region) REFERENCES keys (id, region)
) STRICT;
CREATE INDEX grants_by_key ON grants (key, region);
CREATE INDEX grants_by_retiring ON grants (retiring);

-- The volumes that were given a grant of their own; a revoked one is not given again by itself.
CREATE TABLE volumes (
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    volume TEXT NOT NULL,
    PRIMARY KEY (key, region, volume),
    FOREIGN KEY (key, region) REFERENCES keys (id, region)
) STRICT, WITHOUT ROWID;

-- The keystore's own key pair, to which other keystores seal replicas.
CREATE TABLE transfer_key (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    sealed BLOB NOT NULL,
    created INTEGER NOT NULL
) STRICT;

-- What network clients sign their requests with.
CREATE TABLE access_keys (
    id TEXT PRIMARY KEY,
    -- Empty for the account root.
    user TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
