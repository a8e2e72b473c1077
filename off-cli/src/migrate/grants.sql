-- The permissions of each role: only what its program needs. Every `off migrate --roles` applies the whole file.
REVOKE ALL ON ALL TABLES IN SCHEMA public, catalog, users, orders, billing, letters, auth, outbox
    FROM off_etl, off_auth, off_users, off_orders, off_billing, off_notifications, off_operator;
REVOKE ALL ON SCHEMA catalog, users, orders, billing, letters, auth, outbox
    FROM off_etl, off_auth, off_users, off_orders, off_billing, off_notifications, off_operator;

-- Each program checks whether the database is up to date.
GRANT SELECT ON _sqlx_migrations
    TO off_etl, off_auth, off_users, off_orders, off_billing, off_notifications, off_operator;

GRANT USAGE ON SCHEMA catalog TO off_etl;
GRANT SELECT, INSERT, UPDATE ON catalog.products, catalog.nutrient_levels TO off_etl;
GRANT SELECT, INSERT ON catalog.brands TO off_etl;
GRANT SELECT, INSERT, DELETE ON catalog.product_brands TO off_etl;
GRANT SELECT, INSERT, UPDATE ON catalog.imports, catalog.withdrawals TO off_etl;
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.observed_prices TO off_etl;
GRANT INSERT ON catalog.rejects TO off_etl;
GRANT SELECT, INSERT, UPDATE ON catalog.search TO off_etl;
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.vocabulary TO off_etl;
GRANT SELECT ON public.etl_incoming, public.etl_prices, public.etl_observed TO off_etl;

-- SELECT … FOR UPDATE SKIP LOCKED, by which relays share the outbox, needs UPDATE. Each sees its own messages only.
GRANT USAGE ON SCHEMA outbox TO off_auth, off_users, off_billing;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox.messages TO off_auth, off_users, off_billing;

-- Accounts are created and made operators by others. Security events stay: nobody may change or delete them.
GRANT USAGE ON SCHEMA users, auth TO off_auth;
GRANT SELECT, UPDATE (password_hash, changed_at) ON auth.accounts TO off_auth;
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.sessions, auth.device_keys, auth.signing_keys TO off_auth;
GRANT SELECT, INSERT, UPDATE (full_at), DELETE ON auth.sign_in_attempts TO off_auth;
GRANT SELECT ON auth.clients, auth.client_secrets TO off_auth;
GRANT SELECT, INSERT ON auth.security_events TO off_auth;
-- Whose device it is.
GRANT SELECT (id, user_id, is_simulated) ON users.devices TO off_auth;

GRANT USAGE ON SCHEMA catalog, users TO off_users;
GRANT SELECT ON catalog.products TO off_users;
GRANT SELECT, INSERT ON users.users, users.devices, users.deliveries, users.consumptions TO off_users;
GRANT UPDATE (first_name, last_name, email, phone) ON users.users TO off_users;
GRANT SELECT, INSERT, UPDATE ON users.shelf_items TO off_users;
-- Registration creates accounts and keys, never those of an operator, and cannot read them afterwards. An account changes
-- its e-mail address together with the person.
GRANT USAGE ON SCHEMA auth TO off_users;
GRANT SELECT (user_id), INSERT (user_id, email, password_hash, changed_at), UPDATE (email) ON auth.accounts TO off_users;
GRANT INSERT (id, ssd_id, sha256, label, created_at, created_by) ON auth.device_keys TO off_users;
GRANT INSERT (at, kind, subject, address, detail) ON auth.security_events TO off_users;

GRANT USAGE ON SCHEMA catalog, users, orders, billing, letters TO off_orders;
GRANT SELECT ON catalog.products, users.devices, users.deliveries TO off_orders;
GRANT SELECT ON catalog.brands, catalog.product_brands, catalog.nutrient_levels TO off_orders;
GRANT SELECT ON catalog.search, catalog.vocabulary TO off_orders;
GRANT SELECT, INSERT, UPDATE ON orders.product_orders TO off_orders;
-- Which orders are done. A view reads its tables as its owner.
GRANT SELECT ON orders.unfinished_orders, billing.settled_orders, letters.closed_orders TO off_orders;
GRANT SELECT, UPDATE ON orders.checkpoints TO off_orders;
GRANT SELECT, INSERT, UPDATE, DELETE ON orders.late_orders TO off_orders;
GRANT SELECT, INSERT ON orders.announcements TO off_orders;

-- The ledger can only be added to. An account starts with nothing.
GRANT USAGE ON SCHEMA users, billing TO off_billing;
GRANT SELECT, INSERT (user_id), UPDATE (balance) ON billing.accounts TO off_billing;
GRANT SELECT, INSERT ON billing.transfers, billing.refusals TO off_billing;
-- Whether a person exists, and is simulated.
GRANT SELECT (id, is_simulated) ON users.users TO off_billing;

-- A letter is written once and stays. Names and addresses are read when a letter is read or sent.
GRANT USAGE ON SCHEMA catalog, users, letters TO off_notifications;
GRANT SELECT, INSERT ON letters.letters TO off_notifications;
GRANT SELECT, INSERT, UPDATE (state, attempts, next_at, detail) ON letters.mails TO off_notifications;
GRANT SELECT, INSERT, UPDATE (read_through, not_mailed) ON letters.readers TO off_notifications;
GRANT SELECT ON users.recipients TO off_notifications;
GRANT SELECT (barcode, name) ON catalog.products TO off_notifications;

-- The operator runs audits and has no access to personal data or secrets: no names, no hashes, no salts.
GRANT USAGE ON SCHEMA catalog, users, orders, billing, letters, auth, outbox TO off_operator;
GRANT SELECT ON catalog.imports, catalog.rejects TO off_operator;
GRANT SELECT ON users.devices, users.shelf_items, users.deliveries, users.consumptions TO off_operator;
GRANT SELECT ON orders.product_orders, orders.checkpoints, orders.late_orders, orders.unfinished_orders TO off_operator;
GRANT SELECT ON billing.accounts, billing.transfers, billing.refusals, billing.settled_orders TO off_operator;
GRANT SELECT ON outbox.messages TO off_operator;
GRANT SELECT ON letters.letters TO off_operator;
-- Not what a mail server answered: that may contain an address.
GRANT SELECT (letter_id, subject, kind, user_id, state, attempts, queued_at, next_at) ON letters.mails TO off_operator;
GRANT SELECT ON auth.security_events TO off_operator;
GRANT SELECT (id, user_id, generation, created_at, refreshed_at, idle_until, ends_at, revoked_at, revoked_because,
              user_agent, address)
    ON auth.sessions TO off_operator;
