-- Dead letters are looked for by terminal, which is the key of their records.
-- Only where the index is missing: the statement commits by itself, and the migration may be run again after it.
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'dead_letters' AND index_name = 'dead_letters_key');
SET @change = IF(@known = 0, 'CREATE INDEX dead_letters_key ON dead_letters (`key`(255), at, id)', 'DO 0');
PREPARE change_dead_letters FROM @change;
EXECUTE change_dead_letters;
DEALLOCATE PREPARE change_dead_letters;
