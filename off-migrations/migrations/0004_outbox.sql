-- What is committed but not yet on the bus. A service writes here in the transaction of the fact itself; its relay
-- publishes, waits for the broker's word, and deletes.
CREATE SCHEMA outbox;

CREATE TABLE outbox.messages (
    -- The service whose relay carries it.
    source text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    subject text NOT NULL,
    message_id text NOT NULL,
    body text NOT NULL,
    occurred_at timestamptz NOT NULL,
    traceparent text,
    PRIMARY KEY (source, id)
);

-- Rows live for milliseconds: without this the dead ones would pile up where the relay looks for the next.
ALTER TABLE outbox.messages SET (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 5000
);
