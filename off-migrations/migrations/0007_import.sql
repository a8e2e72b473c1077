-- The importer at full strength: what is no longer sold, how far an import has come, and what it rejected.
ALTER TABLE catalog.products
    ADD COLUMN obsolete boolean NOT NULL DEFAULT false,
    -- Decides between two records of a product that changed in the same second.
    ADD COLUMN fingerprint bigint NOT NULL DEFAULT 0;

-- An import and how far it has come: written in the transaction of each batch, so that one that was killed goes on where it was.
CREATE TABLE catalog.imports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What is read, by its content and not by its name, and by which rules.
    source text NOT NULL,
    rules text NOT NULL,
    -- Its name, for people.
    name text NOT NULL,
    -- Where it goes on: unpacked bytes of JSON lines, rows of a table, pages of the API; and lines.
    place bigint NOT NULL,
    line bigint NOT NULL,
    report jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX imports_under_way ON catalog.imports (source, rules) WHERE finished_at IS NULL;

-- Rejected records, where somebody asked to keep them.
CREATE TABLE catalog.rejects (
    import_id bigint NOT NULL REFERENCES catalog.imports ON DELETE CASCADE,
    line bigint NOT NULL,
    reason text NOT NULL,
    code text,
    PRIMARY KEY (import_id, line)
);

-- Always empty: the pattern of the temporary table of the same name that the importer fills, and by which its queries are checked.
CREATE TABLE public.etl_incoming (
    barcode text NOT NULL,
    name text NOT NULL,
    quantity text NOT NULL,
    product_quantity double precision,
    product_quantity_unit text,
    image_url text,
    kcal_100g double precision,
    kcal_serving double precision,
    nova_group smallint NOT NULL,
    nutriscore_score smallint,
    nutriscore_grade text NOT NULL,
    fat text,
    saturated_fat text,
    sugars text,
    salt text,
    brands text[] NOT NULL,
    categories text[] NOT NULL,
    obsolete boolean NOT NULL,
    last_modified timestamptz NOT NULL,
    fingerprint bigint NOT NULL,
    is_new boolean NOT NULL
);
