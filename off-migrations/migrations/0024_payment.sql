-- Orders have a price, and are paid from the account of the person who owns the device.
CREATE SCHEMA billing;

-- The accounts of people. All amounts are in cents of the euro.
CREATE TABLE billing.accounts (
    user_id bigint PRIMARY KEY REFERENCES users.users,
    balance bigint NOT NULL DEFAULT 0 CHECK (balance >= 0)
) WITH (fillfactor = 70);

-- The names follow what moves the money. `charge`: the person pays, and the money is held. An `earning` or a `refund` ends
-- it. A `reversal` corrects a deposit or a withdrawal.
CREATE TYPE billing.transfer_kind AS ENUM ('deposit', 'withdrawal', 'charge', 'earning', 'refund', 'reversal');

-- The ledger, by double entry: each row takes an amount from one account and gives it to another. Rows are never changed. An
-- account above 0 is that of a person; 0 is cash, -1 is held, and -2 is revenue. The last three have no row with a
-- balance, because every order would update it: their balance is the sum of their transfers.
CREATE TABLE billing.transfers (
    -- The order, or the id of the deposit or withdrawal. With the kind it makes a repeated transfer have no effect.
    subject uuid NOT NULL,
    kind billing.transfer_kind NOT NULL,
    -- In the order of the transfers of a person, for their pages.
    number bigint GENERATED ALWAYS AS IDENTITY,
    debit_account bigint NOT NULL,
    credit_account bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    at timestamptz NOT NULL,
    -- Why an operator reversed a transfer.
    reason text,
    PRIMARY KEY (subject, kind),
    CHECK (debit_account <> credit_account),
    CHECK ((kind = 'reversal') = (reason IS NOT NULL)),
    CHECK (CASE kind
        WHEN 'deposit' THEN debit_account = 0 AND credit_account > 0
        WHEN 'withdrawal' THEN debit_account > 0 AND credit_account = 0
        WHEN 'charge' THEN debit_account > 0 AND credit_account = -1
        WHEN 'earning' THEN debit_account = -1 AND credit_account = -2
        WHEN 'refund' THEN debit_account = -1 AND credit_account > 0
        WHEN 'reversal' THEN least(debit_account, credit_account) = 0 AND greatest(debit_account, credit_account) > 0
    END)
);
-- A charge has one end.
CREATE UNIQUE INDEX transfers_end ON billing.transfers (subject) WHERE kind IN ('earning', 'refund');
CREATE INDEX transfers_debit ON billing.transfers (debit_account, number) WHERE debit_account > 0;
CREATE INDEX transfers_credit ON billing.transfers (credit_account, number) WHERE credit_account > 0;

-- Orders that will never be charged: the account had too little money, or the order was cancelled before it was charged.
CREATE TABLE billing.refusals (
    order_id uuid PRIMARY KEY,
    user_id bigint NOT NULL,
    reason text NOT NULL CHECK (reason IN ('insufficient_funds', 'cancelled')),
    -- How much was missing.
    missing bigint CHECK ((missing > 0) = (reason = 'insufficient_funds')),
    at timestamptz NOT NULL
);

-- The orders whose money is settled: earned, given back, or never to be charged.
CREATE VIEW billing.settled_orders AS
    SELECT subject AS order_id FROM billing.transfers WHERE kind IN ('earning', 'refund')
    UNION ALL
    SELECT order_id FROM billing.refusals;

ALTER TABLE orders.product_orders
    -- Who owned the device when the order was placed.
    ADD COLUMN user_id bigint,
    -- The price of a unit when the order was placed, in cents.
    ADD COLUMN unit_price bigint CHECK (unit_price > 0),
    ADD COLUMN paid_at timestamptz,
    -- When it was refused or cancelled.
    ADD COLUMN ended_at timestamptz,
    -- How much money was missing when it was refused, in cents.
    ADD COLUMN missing bigint;
UPDATE orders.product_orders AS placed
SET user_id = devices.user_id, unit_price = products.price_cents,
    paid_at = CASE WHEN status <> 'pending' THEN placed_at END
FROM users.devices, catalog.products
WHERE devices.id = placed.ssd_id AND products.barcode = placed.barcode;
ALTER TABLE orders.product_orders ALTER COLUMN user_id SET NOT NULL, ALTER COLUMN unit_price SET NOT NULL;

-- Orders that were shipped before there were accounts count as paid in cash.
INSERT INTO billing.accounts (user_id) SELECT id FROM users.users;
INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
SELECT placed.id, paid.kind::billing.transfer_kind,
       CASE paid.kind WHEN 'deposit' THEN 0 WHEN 'charge' THEN user_id ELSE -1 END,
       CASE paid.kind WHEN 'deposit' THEN user_id WHEN 'charge' THEN -1 ELSE -2 END,
       unit_price * quantity, paid_at
FROM orders.product_orders AS placed, unnest('{deposit,charge,earning}'::text[]) AS paid (kind)
WHERE status <> 'pending' AND (paid.kind <> 'earning' OR status = 'completed');

-- The first checkpoint is that of the supplier: it passes an order when it should have been shipped.
UPDATE orders.checkpoints SET status = 'paid' WHERE status = 'pending';

-- The orders for which something must still happen: recovery and the audit look for the overdue ones among these.
CREATE VIEW orders.unfinished_orders AS
    SELECT id, status, deadline FROM orders.product_orders AS placed
    WHERE CASE
        WHEN status = 'completed' THEN NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = placed.id)
                                       OR NOT EXISTS (SELECT FROM billing.settled_orders WHERE order_id = placed.id)
        WHEN status = 'cancelled' THEN NOT EXISTS (SELECT FROM billing.settled_orders WHERE order_id = placed.id)
        ELSE status <> 'refused'
    END;
