-- What there is now, and how fresh it is: age is in seconds since the last successful run.
SELECT uniqExact(integration) AS integrations, uniqExact(integration, connection) AS connections, count() AS streams, sum(records) AS live,
  sumMap(map(if(last_run_status = '', 'none', toString(last_run_status)), toUInt64(1))) AS run_status, countIf(failures_since_success > 0) AS failing,
  countIf(NOT synced) AS never, if(never = streams, 0, avgIf(age, synced)) AS age_avg, quantileExactIf(0.5)(age, synced) AS age_p50,
  quantileExactIf(0.95)(age, synced) AS age_p95, quantileExactIf(0.99)(age, synced) AS age_p99, maxIf(age, synced) AS age_max
FROM (
  SELECT integration, connection, records, last_run_status, failures_since_success, last_success_at IS NOT NULL AS synced,
    intDiv({now:Int64} - toUnixTimestamp64Milli(ifNull(last_success_at, toDateTime64(0, 3, 'UTC'))), 1000) AS age
  FROM v1_streams
  WHERE environment = {environment:String} AND ({integration:String} = '' OR integration = {integration:String})
  AND ({connection:String} = '' OR connection = {connection:String}) AND ({model:String} = '' OR model = {model:String})
  AND ({variant:String} = '' OR variant = {variant:String})
)
LIMIT 1
