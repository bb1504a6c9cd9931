-- Sums by bucket; the view is that of the width asked for. Histograms of lag add up, percentiles would not.
SELECT bucket, sum(changes) AS n_changes, sum(added) AS n_added, sum(updated) AS n_updated, sum(deleted) AS n_deleted, sum(restored) AS n_restored,
  sum(unchanged) AS n_unchanged, sum(runs) AS n_runs, sum(runs_failed) AS n_failed, sum(bytes_written) AS n_bytes, sum(lag_sum_ms) AS lag_sum,
  max(lag_max_ms) AS lag_max, sumForEach(lag_hist) AS hist
FROM v1_changes_hourly
WHERE environment = {environment:String} AND ({integration:String} = '' OR integration = {integration:String})
  AND ({connection:String} = '' OR connection = {connection:String}) AND ({model:String} = '' OR model = {model:String})
  AND ({variant:String} = '' OR variant = {variant:String})
  AND bucket >= {since:DateTime('UTC')} AND bucket < {until:DateTime('UTC')}
GROUP BY bucket
ORDER BY bucket
LIMIT {limit:UInt32}
