-- Where the bytes of payloads are.
SELECT environment, integration, connection, model, variant, sum(changes) AS n_changes, sum(bytes) AS n_bytes, max(bytes_max) AS n_max
FROM v1_payload_sizes
WHERE environment = {environment:String} AND ({integration:String} = '' OR integration = {integration:String})
  AND ({connection:String} = '' OR connection = {connection:String}) AND ({model:String} = '' OR model = {model:String})
  AND ({variant:String} = '' OR variant = {variant:String})
  AND bucket >= {since:DateTime('UTC')} AND bucket < {until:DateTime('UTC')}
GROUP BY environment, integration, connection, model, variant
ORDER BY n_bytes DESC, environment, integration, connection, model, variant
LIMIT {limit:UInt32}
