-- A service that has a database role of its own sees and carries its own messages only: the role of the service `orders`
-- is off_orders. The operator audits all. The tables' owner is not held to this.
ALTER TABLE outbox.messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY messages_of_its_own ON outbox.messages USING (current_user IN ('off_' || source, 'off_operator'));
