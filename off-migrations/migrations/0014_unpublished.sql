-- A late order may also be one whose event the broker did not acknowledge: it is published whatever its deadline.
ALTER TABLE orders.late_orders ADD COLUMN unpublished boolean NOT NULL DEFAULT false;
CREATE INDEX late_orders_unpublished ON orders.late_orders (order_id) WHERE unpublished;

-- What the orders service had left in the outbox: from now on it publishes from memory, and its own rows tell the rest.
INSERT INTO orders.late_orders (order_id, check_at, unpublished)
SELECT product_orders.id, now(), true FROM outbox.messages JOIN orders.product_orders ON message_id = product_orders.id || ':pending'
WHERE source = 'orders'
ON CONFLICT (order_id) DO UPDATE SET unpublished = true, check_at = now();
DELETE FROM outbox.messages WHERE source = 'orders';
