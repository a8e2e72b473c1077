-- Open Food Facts computes scores anew without anybody having changed the record: of two records that changed in the same second the
-- one counts that was computed last. Products of before count as never computed, so that the next import brings what they missed.
ALTER TABLE catalog.products ADD COLUMN last_updated timestamptz NOT NULL DEFAULT 'epoch';

-- Copied column by column, in this order.
ALTER TABLE public.etl_incoming DROP COLUMN fingerprint, DROP COLUMN is_new;
ALTER TABLE public.etl_incoming
    ADD COLUMN last_updated timestamptz NOT NULL,
    ADD COLUMN fingerprint bigint NOT NULL,
    ADD COLUMN is_new boolean NOT NULL;

-- Rejected records that say of a product that it is no longer sold. Kept, because the product may come in a later import.
CREATE TABLE catalog.withdrawals (
    barcode text PRIMARY KEY,
    last_modified timestamptz NOT NULL,
    last_updated timestamptz NOT NULL
);
