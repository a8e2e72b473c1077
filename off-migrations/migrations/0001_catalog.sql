-- The catalogue: what Open Food Facts knows of a product, as far as a shelf needs it. Written by off-etl alone.
CREATE SCHEMA catalog;

CREATE TABLE catalog.products (
    barcode text PRIMARY KEY CHECK (barcode ~ '^[0-9]{8,24}$'),
    -- Almost without gaps (only new products draw a number), so that one can be drawn at random without sorting.
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    name text NOT NULL,
    -- As printed on the pack, for people: '6 x 125 g'.
    quantity text NOT NULL,
    product_quantity double precision CHECK (product_quantity >= 0),
    product_quantity_unit text,
    image_url text,
    kcal_100g double precision CHECK (kcal_100g >= 0),
    kcal_serving double precision CHECK (kcal_serving >= 0),
    nova_group smallint NOT NULL CHECK (nova_group BETWEEN 1 AND 4),
    nutriscore_score smallint CHECK (nutriscore_score BETWEEN -15 AND 40),
    nutriscore_grade text NOT NULL CHECK (nutriscore_grade IN ('a', 'b', 'c', 'd', 'e')),
    categories text[] NOT NULL DEFAULT '{}',
    -- When the record last changed at its source; only a newer one replaces it.
    last_modified timestamptz NOT NULL
);

CREATE TABLE catalog.nutrient_levels (
    barcode text PRIMARY KEY REFERENCES catalog.products ON DELETE CASCADE,
    fat text CHECK (fat IN ('low', 'moderate', 'high')),
    saturated_fat text CHECK (saturated_fat IN ('low', 'moderate', 'high')),
    sugars text CHECK (sugars IN ('low', 'moderate', 'high')),
    salt text CHECK (salt IN ('low', 'moderate', 'high'))
);

CREATE TABLE catalog.brands (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The tag without its language: 'ferrero'.
    name text NOT NULL UNIQUE
);

CREATE TABLE catalog.product_brands (
    barcode text NOT NULL REFERENCES catalog.products ON DELETE CASCADE,
    brand_id bigint NOT NULL REFERENCES catalog.brands ON DELETE CASCADE,
    PRIMARY KEY (barcode, brand_id)
);
CREATE INDEX product_brands_brand ON catalog.product_brands (brand_id);
