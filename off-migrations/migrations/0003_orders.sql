-- Orders and how far they have come.
CREATE SCHEMA orders;

-- In the order of an order's life: a later state is the greater value, so `greatest` never moves one backwards.
CREATE TYPE orders.order_status AS ENUM ('pending', 'shipped', 'completed');

CREATE TABLE orders.product_orders (
    -- UUID version 7: sorted by when it was placed.
    id uuid PRIMARY KEY,
    ssd_id bigint NOT NULL REFERENCES users.ssds,
    barcode text NOT NULL REFERENCES catalog.products,
    quantity integer NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    status orders.order_status NOT NULL DEFAULT 'pending',
    -- The client's own name for the request, so that repeating it orders nothing more.
    idempotency_key text CONSTRAINT product_orders_idempotency_key UNIQUE,
    placed_at timestamptz NOT NULL,
    shipped_at timestamptz,
    completed_at timestamptz
);
CREATE INDEX product_orders_status ON orders.product_orders (status, id);
CREATE INDEX product_orders_ssd ON orders.product_orders (ssd_id, id);
