-- Versions of a record, newest first, with csns from..to and up to a time.
SELECT changed_at, toString(action), revision, run, changed_fields, changed_count, fields_known, fields_truncated, seconds_since_previous, reverted,
  payload_bytes, payload_delta, lag_ms, change_id, kpart, csn, koffset
FROM v1_record_history(environment = {environment:String}, integration = {integration:String}, connection = {connection:String}, model = {model:String}, variant = {variant:String},
  record_id = {record_id:String})
WHERE csn >= {from:UInt64} AND csn <= {to:UInt64} AND changed_at <= {at:DateTime64(3, 'UTC')}
ORDER BY csn DESC
LIMIT {limit:UInt32}
