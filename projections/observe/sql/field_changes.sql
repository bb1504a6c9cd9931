-- Fields that updates touched.
SELECT environment, integration, connection, model, variant, field, pointer, updates, updates_alone, updates_total, share, share_alone, last_at
FROM v1_field_changes(environment = {environment:String}, integration = {integration:String}, connection = {connection:String}, model = {model:String}, variant = {variant:String},
  since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')})
ORDER BY updates DESC, environment, integration, connection, model, variant, field
LIMIT {limit:UInt32}
