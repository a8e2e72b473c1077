-- The key with which a device made this one; NULL if somebody else made it, or if that key was deleted. Whoever takes a
-- key away from a device takes away the keys that were made with it, too.
ALTER TABLE auth.device_keys ADD COLUMN made_with uuid REFERENCES auth.device_keys ON DELETE SET NULL;
CREATE INDEX device_keys_made_with ON auth.device_keys (made_with) WHERE made_with IS NOT NULL;
