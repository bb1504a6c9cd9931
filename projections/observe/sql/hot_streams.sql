-- Streams that changed lately.
SELECT environment, integration, connection, model, variant, changes_1h, changes_24h, changes_7d, unchanged_24h, bytes_24h, last_change_at
FROM v1_hot_streams
WHERE environment = {environment:String} AND ({integration:String} = '' OR integration = {integration:String})
  AND ({connection:String} = '' OR connection = {connection:String}) AND ({model:String} = '' OR model = {model:String})
  AND ({variant:String} = '' OR variant = {variant:String})
ORDER BY changes_24h DESC, changes_7d DESC, environment, integration, connection, model, variant
LIMIT {limit:UInt32}
