DROP INDEX dead_letters_key;
