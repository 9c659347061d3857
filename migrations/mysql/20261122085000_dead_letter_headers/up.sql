-- The headers of the record as it came (MessagePack, as in outbox): those of binary mode hold the event's attributes.
-- Only where the column is missing: the statement commits by itself, and the migration may be run again after it.
SET @known = (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'dead_letters' AND column_name = 'headers');
SET @change = IF(@known = 0, 'ALTER TABLE dead_letters ADD COLUMN headers LONGBLOB', 'DO 0');
PREPARE change_dead_letters FROM @change;
EXECUTE change_dead_letters;
DEALLOCATE PREPARE change_dead_letters;
