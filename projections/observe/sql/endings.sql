-- When all records of a stream went at once, without a change of each.
SELECT at, op, kpart, csn, koffset
FROM v1_timeline
WHERE environment = {environment:String} AND integration = {integration:String} AND connection = {connection:String} AND model = {model:String}
  AND variant = {variant:String} AND (op = 'CLEARED' AND mode = 'hard' OR op = 'PURGED')
  AND csn >= {from:UInt64} AND csn <= {to:UInt64} AND at <= {at:DateTime64(3, 'UTC')}
ORDER BY csn DESC
LIMIT {limit:UInt32}
