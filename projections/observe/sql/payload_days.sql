-- And when they were written.
SELECT bucket, sum(changes) AS n_changes, sum(bytes) AS n_bytes, max(bytes_max) AS n_max
FROM v1_payload_sizes
WHERE environment = {environment:String} AND ({integration:String} = '' OR integration = {integration:String})
  AND ({connection:String} = '' OR connection = {connection:String}) AND ({model:String} = '' OR model = {model:String})
  AND ({variant:String} = '' OR variant = {variant:String})
  AND bucket >= {since:DateTime('UTC')} AND bucket < {until:DateTime('UTC')}
GROUP BY bucket
ORDER BY bucket
LIMIT {limit:UInt32}
