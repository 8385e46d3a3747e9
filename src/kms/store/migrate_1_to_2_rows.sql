-- The rows of version 1 in the tables of version 2.
INSERT INTO key_sets (id, spec, usage, origin, rotation_enabled, rotation_period_days, rotation_since)
    SELECT id, spec, usage, origin, rotation_enabled, rotation_period_days, rotation_since
    FROM old_keys;
INSERT INTO keys (number, region, id, manager, state, description, created, tracked_since, changed)
    SELECT number, (SELECT value FROM settings WHERE name = 'region'), id, manager, state,
        description, created, created, changed
    FROM old_keys;
INSERT INTO materials (key, region, generation, id, state, sealed, created, rotated, rotation_type)
    SELECT key, '', generation, id,
        iif(generation = (SELECT max(generation) FROM old_materials AS other
                          WHERE other.key = old_materials.key), 'CURRENT', 'NON_CURRENT'),
        sealed, created, iif(rotation_type IS NULL, NULL, created), rotation_type
    FROM old_materials;
INSERT INTO aliases (region, name, key, created, updated)
    SELECT (SELECT value FROM settings WHERE name = 'region'), name, key, created, updated
    FROM old_aliases;
DROP TABLE old_aliases;
DROP TABLE old_materials;
DROP TABLE old_keys;
