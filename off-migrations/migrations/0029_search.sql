-- The search in the catalog: the words of each product, and all words that there are, for corrections of typing errors. The
-- importer fills both at its end.
CREATE EXTENSION IF NOT EXISTS unaccent;
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- Words in any language as they are, without accents.
CREATE TEXT SEARCH CONFIGURATION catalog.words (COPY = pg_catalog.simple);
ALTER TEXT SEARCH CONFIGURATION catalog.words
    ALTER MAPPING FOR asciiword, word, numword, asciihword, hword, numhword, hword_asciipart, hword_part, hword_numpart
    WITH unaccent, simple;

CREATE TABLE catalog.search (
    barcode text PRIMARY KEY REFERENCES catalog.products ON DELETE CASCADE,
    -- The words of the name (weight A), of the brands (B) and of the categories (C); and a lexeme for each brand and each
    -- category as a whole, like `=brand:alnatura` and `=category:en:teas`: no word begins with this character.
    words tsvector NOT NULL,
    -- That of the product when its words were taken.
    fingerprint bigint NOT NULL
);
CREATE INDEX search_words ON catalog.search USING gin (words);

CREATE TABLE catalog.vocabulary (
    word text PRIMARY KEY,
    -- How many products have it.
    products integer NOT NULL
);
CREATE INDEX vocabulary_similar ON catalog.vocabulary USING gin (word gin_trgm_ops);
