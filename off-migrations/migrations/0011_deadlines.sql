-- Recovery by deadline: each order says by when its next step must have happened, and what is overdue is announced again.
-- The deadline is not indexed, and neither is the state any more, so that an order's updates stay on its page (HOT) and
-- write to no index.
ALTER TABLE orders.product_orders ADD COLUMN due_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE orders.product_orders SET (fillfactor = 60);
DROP INDEX orders.product_orders_status;

-- How far the orders were checked, by id and so by the time they were placed: up to `through` none is still in `status`
-- or an earlier one, but for those in `orders.late_orders`.
CREATE TABLE orders.checkpoints (
    status orders.order_status PRIMARY KEY,
    through uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- How many orders there are up to `through`.
    orders bigint NOT NULL DEFAULT 0
);
INSERT INTO orders.checkpoints (status) VALUES ('pending'), ('shipped'), ('completed');

-- Orders that a checkpoint passed before they had got as far as it: they are checked one by one until they are delivered.
CREATE TABLE orders.late_orders (
    order_id uuid PRIMARY KEY,
    -- When to look again: the order's deadline, or after a pause that grows with each announcement.
    check_at timestamptz NOT NULL,
    -- How often the order was announced again in its present state.
    announcements integer NOT NULL DEFAULT 0
);
CREATE INDEX late_orders_check ON orders.late_orders (check_at);

-- The same for shelves: when a shelf that is low is announced again.
ALTER TABLE users.product_ssds ADD COLUMN remind_at timestamptz;
UPDATE users.product_ssds SET remind_at = now() WHERE low_since IS NOT NULL;
DROP INDEX users.product_ssds_low;
CREATE INDEX product_ssds_remind ON users.product_ssds (remind_at) WHERE remind_at IS NOT NULL;
