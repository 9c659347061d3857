-- Each decision of a person has an id of its own: whoever does not know whether it was written looks for that.
ALTER TABLE audit ADD COLUMN decision TEXT;
CREATE UNIQUE INDEX audit_decision ON audit (decision) WHERE decision IS NOT NULL;
