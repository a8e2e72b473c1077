-- A session may have a key instead of refresh tokens: a browser keeps it in a cookie, and only its hash is stored.
ALTER TABLE auth.sessions ADD COLUMN key_sha256 bytea;
