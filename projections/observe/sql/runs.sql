-- Runs, newest first. One whose start is not known stands where it ended.
SELECT environment, integration, connection, model, variant, run, sync, status, started_at, ended_at, duration_ms, received, added, updated, deleted,
  unchanged, skipped, not_found, dead_lettered, tracks_deletes, to_delete, swept, decision, decided_by, reason, detail, csn
FROM v1_runs
WHERE environment = {environment:String} AND ({integration:String} = '' OR integration = {integration:String})
  AND ({connection:String} = '' OR connection = {connection:String}) AND ({model:String} = '' OR model = {model:String})
  AND ({variant:String} = '' OR variant = {variant:String})
  AND ({status:String} = '' OR status = {status:String})
  AND ifNull(started_at, ended_at) >= {since:DateTime64(3, 'UTC')} AND ifNull(started_at, ended_at) < {until:DateTime64(3, 'UTC')}
ORDER BY ifNull(started_at, ended_at) DESC, environment, integration, connection, model, variant, run DESC
LIMIT {limit:UInt32}
