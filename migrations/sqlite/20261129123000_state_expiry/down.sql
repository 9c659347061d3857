ALTER TABLE windows DROP COLUMN expires;
ALTER TABLE entities DROP COLUMN expires;
