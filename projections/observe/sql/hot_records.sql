-- Records that changed most often, out of the hottest of the environment.
SELECT environment, integration, connection, model, variant, record_id, changes, updated, first_at, last_at, payload_bytes
FROM v1_hot_records(environment = {environment:String}, since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')})
WHERE ({integration:String} = '' OR integration = {integration:String}) AND ({connection:String} = '' OR connection = {connection:String})
  AND ({model:String} = '' OR model = {model:String}) AND ({variant:String} = '' OR variant = {variant:String})
ORDER BY changes DESC, environment, integration, connection, model, variant, record_id
LIMIT {limit:UInt32}
