ALTER TABLE audit DROP INDEX audit_decision;
ALTER TABLE audit DROP COLUMN decision;
