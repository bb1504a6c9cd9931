-- How far each component is behind in each partition, as it last said.
SELECT component, generation, kpart, sampled_at, lag_records, lag_ms, seconds_to_loss
FROM v1_lag_now
ORDER BY component, generation, kpart
LIMIT {limit:UInt32}
