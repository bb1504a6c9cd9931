-- Streams whose updates mostly touched a few fields.
SELECT environment, integration, connection, model, variant, updates, spurious, share, fields, ignore, finding
FROM v1_spurious_updates(environment = {environment:String}, since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')})
WHERE ({integration:String} = '' OR integration = {integration:String}) AND ({connection:String} = '' OR connection = {connection:String})
  AND ({model:String} = '' OR model = {model:String}) AND ({variant:String} = '' OR variant = {variant:String})
ORDER BY spurious DESC, environment, integration, connection, model, variant
LIMIT {limit:UInt32}
