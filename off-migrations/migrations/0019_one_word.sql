-- One word for one thing: a deadline, while `orders.due` is the end of a wait; the id of an event, which `Nats-Msg-Id`
-- extends when the event is announced again.
ALTER TABLE orders.product_orders RENAME COLUMN due_at TO deadline;
ALTER TABLE outbox.messages RENAME COLUMN message_id TO event_id;
