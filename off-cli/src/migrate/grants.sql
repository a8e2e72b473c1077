-- The permissions of each role: only what its program needs. Every `off migrate --roles` applies the whole file.
REVOKE ALL ON ALL TABLES IN SCHEMA public, catalog, users, orders, outbox
    FROM off_etl, off_users, off_orders, off_operator;
REVOKE ALL ON SCHEMA catalog, users, orders, outbox FROM off_etl, off_users, off_orders, off_operator;

-- Each program checks whether the database is up to date.
GRANT SELECT ON _sqlx_migrations TO off_etl, off_users, off_orders, off_operator;

GRANT USAGE ON SCHEMA catalog TO off_etl;
GRANT SELECT, INSERT, UPDATE ON catalog.products, catalog.nutrient_levels TO off_etl;
GRANT SELECT, INSERT ON catalog.brands TO off_etl;
GRANT SELECT, INSERT, DELETE ON catalog.product_brands TO off_etl;
GRANT SELECT, INSERT, UPDATE ON catalog.imports, catalog.withdrawals TO off_etl;
GRANT INSERT ON catalog.rejects TO off_etl;
GRANT SELECT ON public.etl_incoming TO off_etl;

GRANT USAGE ON SCHEMA catalog, users, outbox TO off_users;
GRANT SELECT ON catalog.products TO off_users;
GRANT SELECT, INSERT ON users.users, users.devices, users.deliveries, users.consumptions TO off_users;
GRANT SELECT, INSERT, UPDATE ON users.shelf_items TO off_users;
-- SELECT … FOR UPDATE SKIP LOCKED, by which relays share the outbox, needs UPDATE.
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox.messages TO off_users;

GRANT USAGE ON SCHEMA catalog, users, orders TO off_orders;
GRANT SELECT ON catalog.products, users.devices, users.deliveries TO off_orders;
GRANT SELECT, INSERT, UPDATE ON orders.product_orders TO off_orders;
GRANT SELECT, UPDATE ON orders.checkpoints TO off_orders;
GRANT SELECT, INSERT, UPDATE, DELETE ON orders.late_orders TO off_orders;

-- The operator runs audits and has no access to personal data: no names, no password hashes.
GRANT USAGE ON SCHEMA users, orders, outbox TO off_operator;
GRANT SELECT ON users.devices, users.shelf_items, users.deliveries, users.consumptions TO off_operator;
GRANT SELECT ON orders.product_orders, orders.checkpoints, orders.late_orders, outbox.messages TO off_operator;
