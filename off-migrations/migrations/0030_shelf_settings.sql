-- A person may pause the restocking of a product on a shelf.
ALTER TABLE users.shelf_items ADD COLUMN is_paused boolean NOT NULL DEFAULT false;

-- What happened on a shelf, by time.
CREATE INDEX deliveries_ssd_time ON users.deliveries (ssd_id, delivered_at);
CREATE INDEX consumptions_ssd_time ON users.consumptions (ssd_id, consumed_at);
