-- Accounts, sessions and keys: who may sign in, and what can be revoked. Only the auth service reads them; the users
-- service may insert accounts and device keys.
CREATE SCHEMA auth;

CREATE TABLE auth.accounts (
    user_id bigint PRIMARY KEY REFERENCES users.users,
    -- The e-mail address of the person, by which they sign in. The users service changes both together.
    email text NOT NULL CONSTRAINT accounts_email_taken UNIQUE,
    -- A PHC string: algorithm, parameters, salt and hash.
    password_hash text NOT NULL,
    is_operator boolean NOT NULL DEFAULT false,
    -- When the password was set.
    changed_at timestamptz NOT NULL,
    -- The limit of sign-in attempts: when all attempts are available again (GCRA).
    attempts_full_at timestamptz
);

INSERT INTO auth.accounts (user_id, email, password_hash, changed_at)
SELECT id, email, password_hash, registered_at FROM users.users;
ALTER TABLE users.users DROP COLUMN password_hash;

ALTER TABLE users.users ADD COLUMN phone text;
-- Registered by a client that simulates households, which may act for these people and for no others.
ALTER TABLE users.users ADD COLUMN is_simulated boolean NOT NULL DEFAULT false;
-- A copy of the person's: orders check it in the row that they look up anyway.
ALTER TABLE users.devices ADD COLUMN is_simulated boolean NOT NULL DEFAULT false;
-- Generated households have addresses with this prefix.
UPDATE users.devices SET is_simulated = true WHERE mac_address LIKE '02:0f:%';
UPDATE users.users SET is_simulated = true
WHERE id IN (SELECT user_id FROM users.devices WHERE is_simulated);

-- One row per sign-in, whatever it refreshes. The refresh token is derived from the row and a secret.
CREATE TABLE auth.sessions (
    id uuid PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES auth.accounts,
    salt bytea NOT NULL,
    -- How often it was refreshed; only the token of the current generation is valid.
    generation integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    refreshed_at timestamptz NOT NULL,
    -- When it ends without a refresh, and when it ends in any case.
    idle_until timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_because text,
    user_agent text NOT NULL DEFAULT '',
    address text NOT NULL DEFAULT ''
);
CREATE INDEX sessions_user ON auth.sessions (user_id);
CREATE INDEX sessions_idle ON auth.sessions (idle_until);

-- Programs with credentials of their own.
CREATE TABLE auth.clients (
    id text PRIMARY KEY,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL,
    disabled_at timestamptz
);

-- Secrets are random, so a fast hash is enough. A client may have two, so that one can be replaced without a gap.
CREATE TABLE auth.client_secrets (
    id uuid PRIMARY KEY,
    client_id text NOT NULL REFERENCES auth.clients,
    sha256 bytea NOT NULL CONSTRAINT client_secrets_taken UNIQUE,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX client_secrets_client ON auth.client_secrets (client_id);

CREATE TABLE auth.device_keys (
    id uuid PRIMARY KEY,
    ssd_id bigint NOT NULL REFERENCES users.devices,
    sha256 bytea NOT NULL,
    label text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    -- The subject that created it, like user:17.
    created_by text NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX device_keys_device ON auth.device_keys (ssd_id);
CREATE INDEX device_keys_revoked ON auth.device_keys (revoked_at) WHERE revoked_at IS NOT NULL;

-- No state: each replica derives it from these times and the clock.
CREATE TABLE auth.signing_keys (
    -- The RFC 7638 thumbprint of the public key.
    kid text PRIMARY KEY,
    public_jwk jsonb NOT NULL,
    -- AES-256-GCM: nonce, ciphertext and tag.
    private_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    signs_from timestamptz NOT NULL,
    signs_until timestamptz NOT NULL,
    -- When it leaves the published set: later than the last token that it signed.
    retires_at timestamptz NOT NULL
);

-- Security events. No role may update or delete them.
CREATE TABLE auth.security_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    -- What happened, like session_revoked.
    kind text NOT NULL,
    -- Who did it, like user:17; empty if unknown.
    subject text NOT NULL,
    -- The client's address; empty if unknown.
    address text NOT NULL,
    detail text NOT NULL DEFAULT ''
);
CREATE INDEX security_events_at ON auth.security_events (at);
