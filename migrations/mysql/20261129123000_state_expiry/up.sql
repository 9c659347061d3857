-- From when on, by the clock of its partition, a state or a duplicate window counts as absent; NULL: never. What is there already
-- counts as seen at the clock that is committed now, and is kept for 400 days from then.
-- Only where the columns are missing: each statement commits by itself, and the migration may be run again after it.
SET @known = (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'entities' AND column_name = 'expires');
SET @change = IF(@known = 0, 'ALTER TABLE entities ADD COLUMN expires BIGINT', 'DO 0');
PREPARE change_entities FROM @change;
EXECUTE change_entities;
DEALLOCATE PREPARE change_entities;
SET @known = (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'windows' AND column_name = 'expires');
SET @change = IF(@known = 0, 'ALTER TABLE windows ADD COLUMN expires BIGINT', 'DO 0');
PREPARE change_windows FROM @change;
EXECUTE change_windows;
DEALLOCATE PREPARE change_windows;
UPDATE entities JOIN offsets ON offsets.topic = entities.topic AND offsets.`partition` = entities.`partition`
    SET entities.expires = 34646400000 + offsets.clock WHERE entities.expires IS NULL;
UPDATE windows JOIN offsets ON offsets.topic = 'pos.events' AND offsets.`partition` = windows.`partition`
    SET windows.expires = 34646400000 + offsets.clock WHERE windows.expires IS NULL;
