DROP INDEX dead_letters_key ON dead_letters;
