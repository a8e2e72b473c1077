-- A shelf's quantity changes with every delivery: with room on its page the update writes to no index (HOT).
ALTER TABLE users.product_ssds SET (fillfactor = 70);
