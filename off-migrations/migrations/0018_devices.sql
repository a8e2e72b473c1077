-- One word for one thing: the table of devices, and what stands on their shelves.
ALTER TABLE users.ssds RENAME TO devices;
ALTER SEQUENCE users.ssds_id_seq RENAME TO devices_id_seq;
ALTER TABLE users.devices RENAME CONSTRAINT ssds_mac_address_taken TO devices_mac_address_taken;
ALTER INDEX users.ssds_user RENAME TO devices_user;
ALTER TABLE users.product_ssds RENAME TO shelf_items;
ALTER INDEX users.product_ssds_remind RENAME TO shelf_items_remind;
