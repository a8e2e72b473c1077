-- When recovery announced an order again, so that its story can tell. Only orders that were overdue have rows here.
CREATE TABLE orders.announcements (
    order_id uuid NOT NULL,
    announced_at timestamptz NOT NULL,
    -- The status of the event that was published once more.
    status orders.order_status NOT NULL,
    PRIMARY KEY (order_id, announced_at)
);
