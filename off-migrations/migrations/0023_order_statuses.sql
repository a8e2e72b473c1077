-- An order is paid before the supplier starts, or ends without being shipped. In a migration of its own, because Postgres
-- does not use a new value in the transaction that adds it. `greatest` keeps the two ends: they are above all others.
ALTER TYPE orders.order_status ADD VALUE 'paid' BEFORE 'shipped';
ALTER TYPE orders.order_status ADD VALUE 'refused';
ALTER TYPE orders.order_status ADD VALUE 'cancelled';
