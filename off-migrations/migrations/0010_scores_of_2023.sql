-- The Nutri-Score of 2023 gives foods up to 55 points against them, and drinks up to 18 for them; the first one gave 40 and 15.
ALTER TABLE catalog.products
    DROP CONSTRAINT products_nutriscore_score_check,
    ADD CONSTRAINT products_nutriscore_score_check CHECK (nutriscore_score BETWEEN -18 AND 55);
