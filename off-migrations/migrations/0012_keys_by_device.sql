-- An Idempotency-Key is a device's own: two devices may use the same.
DROP INDEX orders.product_orders_idempotency_key;
CREATE UNIQUE INDEX product_orders_idempotency_key ON orders.product_orders (ssd_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
