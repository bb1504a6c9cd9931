-- How far each generation of the projections is, the one that serves first.
SELECT generation, serving, kparts, csns, stored_at, oldest_stored_at, lag_records, lag_ms, seconds_to_loss, audited_at, audit_windows, audit_mismatches
FROM v1_health
ORDER BY serving DESC, generation DESC
LIMIT {limit:UInt32}
