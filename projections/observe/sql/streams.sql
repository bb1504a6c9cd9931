-- Streams as they are now, with their changes by hour since {since}. In the order 'stale' those that never synced come first.
SELECT environment, integration, connection, model, variant, records, last_change_at, changes_total, last_run, last_run_sync, last_run_status,
  last_run_reason, last_run_started_at, last_run_ended_at, last_success_at, failures_since_success, kpart, hours, count() OVER () AS streams_total,
  sum(records) OVER () AS records_total
FROM v1_streams
LEFT JOIN (
  SELECT environment, integration, connection, model, variant,
    sumForEach(arrayMap(h -> if(h = dateDiff('hour', {since:DateTime('UTC')}, bucket), changes, 0), range({hours:UInt8}))) AS hours
  FROM v1_changes_hourly
  WHERE environment = {environment:String} AND ({integration:String} = '' OR integration = {integration:String})
  AND ({connection:String} = '' OR connection = {connection:String}) AND ({model:String} = '' OR model = {model:String})
  AND ({variant:String} = '' OR variant = {variant:String})
  AND bucket >= {since:DateTime('UTC')}
  GROUP BY environment, integration, connection, model, variant
) AS activity USING (environment, integration, connection, model, variant)
WHERE environment = {environment:String} AND ({integration:String} = '' OR integration = {integration:String})
  AND ({connection:String} = '' OR connection = {connection:String}) AND ({model:String} = '' OR model = {model:String})
  AND ({variant:String} = '' OR variant = {variant:String})
ORDER BY multiIf({order:String} = 'activity', -toInt64(arraySum(hours)), {order:String} = 'records', -toInt64(records), {order:String} = 'stale',
  toUnixTimestamp64Milli(ifNull(last_success_at, toDateTime64(0, 3, 'UTC'))), 0), environment, integration, connection, model, variant
LIMIT {limit:UInt32}
