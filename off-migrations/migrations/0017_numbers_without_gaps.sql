-- A product's number follows from the order in which products came, and from nothing else: the same import numbers them the
-- same way, whether or not it was killed in between, so that the same draw finds the same product. A sequence would have gaps
-- after each transaction that was rolled back.
ALTER TABLE catalog.products ALTER COLUMN number DROP IDENTITY;

-- The number of a product that is new; else it has one.
ALTER TABLE public.etl_incoming DROP COLUMN is_new;
ALTER TABLE public.etl_incoming ADD COLUMN new_number bigint;
