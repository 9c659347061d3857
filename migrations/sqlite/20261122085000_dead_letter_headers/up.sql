-- The headers of the record as it came (MessagePack, as in outbox): those of binary mode hold the event's attributes.
ALTER TABLE dead_letters ADD COLUMN headers BLOB;
