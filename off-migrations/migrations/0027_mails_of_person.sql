-- The e-mails that a person got lately: their number is limited.
CREATE INDEX mails_person ON letters.mails (user_id, queued_at) WHERE state <> 'suppressed';
