-- People, their devices and what stands on the shelves.
CREATE SCHEMA users;

CREATE TABLE users.users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first_name text NOT NULL,
    last_name text NOT NULL,
    -- Lower case, so that one mailbox registers once.
    email text NOT NULL CONSTRAINT users_email_taken UNIQUE,
    -- A PHC string: algorithm, parameters, salt and hash.
    password_hash text NOT NULL,
    registered_at timestamptz NOT NULL
);

CREATE TABLE users.ssds (
    -- Almost without gaps, so that one can be drawn at random without sorting.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users.users,
    mac_address text NOT NULL CONSTRAINT ssds_mac_address_taken UNIQUE
);
CREATE INDEX ssds_user ON users.ssds (user_id);

-- A shelf: one row for each product a device watches.
CREATE TABLE users.product_ssds (
    ssd_id bigint NOT NULL REFERENCES users.ssds,
    barcode text NOT NULL REFERENCES catalog.products,
    -- Always the deliveries less what was taken; `off audit` holds it to that.
    quantity integer NOT NULL DEFAULT 0 CHECK (quantity >= 0),
    reorder_point integer NOT NULL CHECK (reorder_point >= 0),
    -- Since when `stock.low` has been said and not answered by a delivery.
    low_since timestamptz,
    PRIMARY KEY (ssd_id, barcode)
);
CREATE INDEX product_ssds_low ON users.product_ssds (low_since) WHERE low_since IS NOT NULL;

-- An order is delivered once: its id is the key, so a message seen twice adds nothing.
CREATE TABLE users.deliveries (
    order_id uuid PRIMARY KEY,
    ssd_id bigint NOT NULL REFERENCES users.ssds,
    barcode text NOT NULL REFERENCES catalog.products,
    quantity integer NOT NULL CHECK (quantity > 0),
    delivered_at timestamptz NOT NULL
);

-- What a device reported, each report once. Its id is the device's own, so it counts within that device only.
CREATE TABLE users.consumptions (
    ssd_id bigint NOT NULL REFERENCES users.ssds,
    id text NOT NULL,
    barcode text NOT NULL REFERENCES catalog.products,
    -- What the device said was taken, and how much of it the shelf had.
    quantity integer NOT NULL CHECK (quantity > 0),
    taken integer NOT NULL CHECK (taken BETWEEN 0 AND quantity),
    consumed_at timestamptz NOT NULL,
    PRIMARY KEY (ssd_id, id)
);
