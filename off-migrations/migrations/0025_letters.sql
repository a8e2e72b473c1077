-- Letters to people, and the e-mails that carry them.
CREATE SCHEMA letters;

CREATE TYPE letters.letter_kind AS ENUM ('welcome', 'paid', 'refused', 'cancelled', 'delivered', 'low_balance');

-- The facts of each letter; its text is rendered from them.
CREATE TABLE letters.letters (
    -- The order; for a welcome letter the number of the person. With the kind it makes a repeated event write nothing.
    subject uuid NOT NULL,
    kind letters.letter_kind NOT NULL,
    -- In the order in which they were written.
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id bigint NOT NULL,
    barcode text,
    quantity integer,
    -- Amounts in cents. For a low balance `total` is the threshold.
    total bigint,
    missing bigint,
    written_at timestamptz NOT NULL,
    PRIMARY KEY (subject, kind),
    CHECK ((barcode IS NOT NULL) = (kind NOT IN ('welcome', 'low_balance'))),
    CHECK ((quantity IS NOT NULL) = (kind NOT IN ('welcome', 'low_balance'))),
    CHECK ((total IS NOT NULL) = (kind <> 'welcome')),
    CHECK ((missing IS NOT NULL) = (kind = 'refused'))
);
-- The letters of a person, of all kinds or of one, newest first.
CREATE UNIQUE INDEX letters_of_person ON letters.letters (user_id, kind, id);

-- What a person read and wants. Without a row: nothing is read, and all letters are sent by e-mail.
CREATE TABLE letters.readers (
    user_id bigint PRIMARY KEY,
    -- All letters up to this one are read.
    read_through bigint NOT NULL DEFAULT 0,
    -- The kinds that are not sent by e-mail.
    not_mailed letters.letter_kind[] NOT NULL DEFAULT '{}'
);

-- `queued`: to be sent at `next_at`. `sending`: a sender has leased it until `next_at`; it may be sent or not. The others
-- are final. `sent`: the mail server accepted it. `bounced`: the mail server refused it for good. `expired`: no mail server
-- accepted it in time. `suppressed`: not sent, because the person has no address to which off sends.
CREATE TYPE letters.mail_state AS ENUM ('queued', 'sending', 'sent', 'bounced', 'expired', 'suppressed');

-- The e-mail of a letter, for people who are not simulated, if a mail server is configured.
CREATE TABLE letters.mails (
    letter_id bigint PRIMARY KEY,
    subject uuid NOT NULL,
    kind letters.letter_kind NOT NULL,
    user_id bigint NOT NULL,
    state letters.mail_state NOT NULL DEFAULT 'queued',
    attempts integer NOT NULL DEFAULT 0,
    queued_at timestamptz NOT NULL,
    -- Real time, whatever the simulated speed.
    next_at timestamptz NOT NULL,
    -- What the mail server answered last, or why the e-mail was not sent.
    detail text,
    FOREIGN KEY (subject, kind) REFERENCES letters.letters
);
CREATE INDEX mails_unfinished ON letters.mails (next_at) WHERE state IN ('queued', 'sending');

-- Whom the notifications service writes to. It reads the address when it sends.
CREATE VIEW users.recipients AS
    SELECT id AS user_id, first_name, last_name, email, is_simulated FROM users.users;

-- The orders whose last letter is written, with the status that it tells. An order that was refused just before its
-- cancellation may have two.
CREATE VIEW letters.closed_orders AS
    SELECT subject AS order_id, CASE kind WHEN 'delivered' THEN 'completed' ELSE kind::text END::orders.order_status AS status
    FROM letters.letters WHERE kind IN ('delivered', 'refused', 'cancelled');

-- Orders that ended before there were letters have theirs, so that nobody announces them again.
INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, missing, written_at)
SELECT id, kind::letters.letter_kind, user_id, barcode, quantity, unit_price * quantity,
       CASE kind WHEN 'refused' THEN coalesce(missing, 0) END, coalesce(completed_at, ended_at, placed_at)
FROM orders.product_orders,
     unnest(CASE status WHEN 'completed' THEN '{paid,delivered}' ELSE ARRAY[status::text] END::text[]) AS kind
WHERE status IN ('completed', 'refused', 'cancelled') ORDER BY id, kind::letters.letter_kind;

CREATE OR REPLACE VIEW orders.unfinished_orders AS
    SELECT id, status, deadline FROM orders.product_orders AS placed
    WHERE CASE
        WHEN status = 'completed' THEN NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = placed.id)
                                       OR NOT EXISTS (SELECT FROM billing.settled_orders WHERE order_id = placed.id)
                                       OR NOT EXISTS (SELECT FROM letters.closed_orders AS closed
                                                      WHERE order_id = placed.id AND closed.status = placed.status)
        WHEN status IN ('refused', 'cancelled')
            THEN NOT EXISTS (SELECT FROM billing.settled_orders WHERE order_id = placed.id)
                 OR NOT EXISTS (SELECT FROM letters.closed_orders AS closed
                                WHERE order_id = placed.id AND closed.status = placed.status)
        ELSE true
    END;
