-- The oldest version of a record that is kept.
SELECT changed_at, toString(action), revision, run, changed_fields, changed_count, fields_known, fields_truncated, seconds_since_previous, reverted,
  payload_bytes, payload_delta, lag_ms, change_id, kpart, csn, koffset
FROM v1_record_history(environment = {environment:String}, integration = {integration:String}, connection = {connection:String}, model = {model:String}, variant = {variant:String},
  record_id = {record_id:String})
ORDER BY csn
LIMIT 1
