-- From when on, by the clock of its partition, a state or a duplicate window counts as absent; NULL: never. What is there already
-- counts as seen at the clock that is committed now, and is kept for 400 days from then.
ALTER TABLE entities ADD COLUMN expires BIGINT;
ALTER TABLE windows ADD COLUMN expires BIGINT;
UPDATE entities SET expires = 34646400000 +
    (SELECT clock FROM offsets WHERE offsets.topic = entities.topic AND offsets."partition" = entities."partition");
UPDATE windows SET expires = 34646400000 +
    (SELECT clock FROM offsets WHERE offsets.topic = 'pos.events' AND offsets."partition" = windows."partition");
