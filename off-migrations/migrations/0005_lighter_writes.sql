-- Orders, deliveries and consumptions no longer check their device and product by foreign keys: each such check is a
-- query of its own for each row, which also locks the row it finds and so writes to it. Both kinds of row are never
-- deleted. What is written here is checked in its own statement: an order where it is stored, a delivery and a
-- consumption by the shelf they belong to, whose foreign keys stay.
ALTER TABLE orders.product_orders
    DROP CONSTRAINT product_orders_ssd_id_fkey,
    DROP CONSTRAINT product_orders_barcode_fkey;
ALTER TABLE users.deliveries
    DROP CONSTRAINT deliveries_ssd_id_fkey,
    DROP CONSTRAINT deliveries_barcode_fkey;
ALTER TABLE users.consumptions
    DROP CONSTRAINT consumptions_ssd_id_fkey,
    DROP CONSTRAINT consumptions_barcode_fkey;

-- A client that names no request asks for no protection, and needs no row in an index.
ALTER TABLE orders.product_orders DROP CONSTRAINT product_orders_idempotency_key;
CREATE UNIQUE INDEX product_orders_idempotency_key ON orders.product_orders (idempotency_key)
    WHERE idempotency_key IS NOT NULL;
