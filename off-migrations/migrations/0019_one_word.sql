-- One word for one thing: a deadline, while `orders.due` is the end of a wait; the id of an event, which `Nats-Msg-Id`
-- extends when the event is announced again.
ALTER TABLE orders.product_orders RENAME COLUMN due_at TO deadline;
ALTER TABLE outbox.messages RENAME COLUMN message_id TO event_id;

-- Constraints still had the names of their tables before 0018.
ALTER TABLE users.devices RENAME CONSTRAINT ssds_pkey TO devices_pkey;
ALTER TABLE users.devices RENAME CONSTRAINT ssds_user_id_fkey TO devices_user_id_fkey;
ALTER TABLE users.shelf_items RENAME CONSTRAINT product_ssds_pkey TO shelf_items_pkey;
ALTER TABLE users.shelf_items RENAME CONSTRAINT product_ssds_quantity_check TO shelf_items_quantity_check;
ALTER TABLE users.shelf_items RENAME CONSTRAINT product_ssds_reorder_point_check TO shelf_items_reorder_point_check;
ALTER TABLE users.shelf_items RENAME CONSTRAINT product_ssds_ssd_id_fkey TO shelf_items_ssd_id_fkey;
ALTER TABLE users.shelf_items RENAME CONSTRAINT product_ssds_barcode_fkey TO shelf_items_barcode_fkey;
