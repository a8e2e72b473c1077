-- The limits of sign-in attempts with an e-mail address: when all attempts are available again (GCRA). A row whose time is
-- past says nothing. The rows are the same whether or not an account has the address, so that they tell nobody.
CREATE TABLE auth.sign_in_attempts (
    -- Of the normal form of the address, or of the text as it was sent if that is no address.
    email_sha256 bytea NOT NULL,
    -- The network of the client; empty for the limit from all networks together.
    network text NOT NULL,
    full_at timestamptz NOT NULL,
    PRIMARY KEY (email_sha256, network)
);
CREATE INDEX sign_in_attempts_full ON auth.sign_in_attempts (full_at);
ALTER TABLE auth.accounts DROP COLUMN attempts_full_at;

-- The key with which a device made this one; NULL if somebody else made it, or if that key was deleted. Whoever takes a
-- key away from a device takes away the keys that were made with it, too.
ALTER TABLE auth.device_keys ADD COLUMN made_with uuid REFERENCES auth.device_keys ON DELETE SET NULL;
CREATE INDEX device_keys_made_with ON auth.device_keys (made_with) WHERE made_with IS NOT NULL;
