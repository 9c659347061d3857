-- Each decision of a person has an id of its own: whoever does not know whether it was written looks for that. An index of MySQL lets
-- any number of rows be NULL. Only where the column is missing: the statement commits by itself, and may be run again after it.
SET @known = (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'audit' AND column_name = 'decision');
SET @change = IF(@known = 0,
    'ALTER TABLE audit ADD COLUMN decision VARBINARY(32), ADD UNIQUE INDEX audit_decision (decision)', 'DO 0');
PREPARE change_audit FROM @change;
EXECUTE change_audit;
DEALLOCATE PREPARE change_audit;
