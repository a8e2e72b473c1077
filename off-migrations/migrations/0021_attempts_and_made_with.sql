-- The limit of sign-in attempts of an account from one network: when all attempts are available again (GCRA). A row whose
-- time is past says nothing. auth.accounts.attempts_full_at is the limit from all networks together.
CREATE TABLE auth.sign_in_attempts (
    user_id bigint NOT NULL REFERENCES auth.accounts,
    -- An IPv4 address, or the /64 of an IPv6 address; empty if unknown.
    network text NOT NULL,
    full_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, network)
);
CREATE INDEX sign_in_attempts_full ON auth.sign_in_attempts (full_at);

-- The key with which a device made this one; NULL if somebody else made it, or if that key was deleted. Whoever takes a
-- key away from a device takes away the keys that were made with it, too.
ALTER TABLE auth.device_keys ADD COLUMN made_with uuid REFERENCES auth.device_keys ON DELETE SET NULL;
CREATE INDEX device_keys_made_with ON auth.device_keys (made_with) WHERE made_with IS NOT NULL;
