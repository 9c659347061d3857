-- Dead letters are looked for by terminal, which is the key of their records.
CREATE INDEX dead_letters_key ON dead_letters (key, at, id);
