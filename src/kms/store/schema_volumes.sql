-- What volumes need, since version 3. Times are milliseconds since 1970-01-01 UTC.

-- When a key material was destroyed for good, while its key stays; NULL while it was not.
ALTER TABLE materials ADD COLUMN retired INTEGER;

-- What a deletion was said to lose, when it was asked for in spite of that.
ALTER TABLE keys ADD COLUMN deletion_forced TEXT;

-- Volumes whose keys come from here, by the cipher directories that they were seen in: of two copies
-- of a volume each needs its own keys.
CREATE TABLE registered_volumes (
    volume TEXT NOT NULL,
    -- Empty where that is not known.
    place TEXT NOT NULL,
    -- When it was last seen there.
    seen INTEGER NOT NULL,
    -- When the last count of all its wrapped keys began; NULL when there was none.
    counted INTEGER,
    -- When somebody said that nobody needs it; NULL while it counts.
    forgotten INTEGER,
    PRIMARY KEY (volume, place)
) STRICT, WITHOUT ROWID;

-- The keys that it wraps new data keys under, or did so since that count.
CREATE TABLE registered_keys (
    volume TEXT NOT NULL,
    place TEXT NOT NULL,
    key TEXT NOT NULL,
    -- The start of the id of the material that was current when the count began; NULL when it has
    -- come to use the key since.
    since BLOB,
    PRIMARY KEY (volume, place, key),
    FOREIGN KEY (volume, place) REFERENCES registered_volumes (volume, place)
) STRICT, WITHOUT ROWID;

-- What was counted.
CREATE TABLE registered_counts (
    volume TEXT NOT NULL,
    place TEXT NOT NULL,
    key TEXT NOT NULL,
    -- The start of the material's id, by which wrapped keys name it.
    material BLOB NOT NULL CHECK (length(material) = 8),
    files INTEGER NOT NULL,
    -- Whether the volume's own key is wrapped under it too.
    volume_key INTEGER NOT NULL CHECK (volume_key IN (0, 1)),
    PRIMARY KEY (volume, place, key, material),
    FOREIGN KEY (volume, place) REFERENCES registered_volumes (volume, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX registered_counts_by_key ON registered_counts (key);
