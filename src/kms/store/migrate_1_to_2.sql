-- From version 1, which had one Region, symmetric keys alone, and neither policies nor grants.
DROP INDEX keys_by_change;
DROP INDEX aliases_by_key;
ALTER TABLE aliases RENAME TO old_aliases;
ALTER TABLE materials RENAME TO old_materials;
ALTER TABLE keys RENAME TO old_keys;
