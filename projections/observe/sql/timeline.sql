-- What happened to streams beside changes of records.
SELECT environment, integration, connection, model, variant, at, op, run, sync, outcome, reason, detail, decision, decided_by, mode, record_id, records,
  to_delete, added, updated, deleted, unchanged, kpart, csn, koffset
FROM v1_timeline
WHERE environment = {environment:String} AND ({integration:String} = '' OR integration = {integration:String})
  AND ({connection:String} = '' OR connection = {connection:String}) AND ({model:String} = '' OR model = {model:String})
  AND ({variant:String} = '' OR variant = {variant:String})
  AND at >= {since:DateTime64(3, 'UTC')} AND at < {until:DateTime64(3, 'UTC')}
ORDER BY at DESC, kpart, csn DESC
LIMIT {limit:UInt32}
