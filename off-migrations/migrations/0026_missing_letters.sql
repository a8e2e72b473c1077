-- Letters of earlier people and orders that the migration before left out: the welcome, and the one about the payment of an
-- order that was paid and then cancelled.
INSERT INTO letters.letters (subject, kind, user_id, written_at)
SELECT lpad(to_hex(id), 32, '0')::uuid, 'welcome', id, registered_at FROM users.users ORDER BY id
ON CONFLICT (subject, kind) DO NOTHING;
INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, written_at)
SELECT id, 'paid', user_id, barcode, quantity, unit_price * quantity, paid_at
FROM orders.product_orders WHERE status = 'cancelled' AND paid_at IS NOT NULL ORDER BY id
ON CONFLICT (subject, kind) DO NOTHING;
