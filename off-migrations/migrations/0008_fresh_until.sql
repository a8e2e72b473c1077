-- How fresh an import made the catalogue is written in the transaction that finishes it, so that no delta is applied and not noted.
ALTER TABLE catalog.imports
    -- Up to when the changes of Open Food Facts are in the catalogue with it; null where it says nothing of that.
    ADD COLUMN fresh_until timestamptz;

UPDATE catalog.imports
SET fresh_until = CASE WHEN source = 'deltas' THEN to_timestamp(place) ELSE (report ->> 'newest')::timestamptz END
WHERE finished_at IS NOT NULL AND (source = 'deltas' OR source LIKE 'file of %');
