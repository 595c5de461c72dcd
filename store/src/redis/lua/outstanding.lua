-- What a tenant has outstanding, by its counters. ARGV: 5 the tenant. Answers the events that are
-- not matched yet and the deliveries that have not ended, together.
if not marks() then return EPOCH end
local found = redis.call('HMGET', base .. 'n:' .. ARGV[5], 'a', 'm', 'u', 'c', 's', 'f', 'x')
local sum = 0
for i, sign in ipairs({ 1, -1, -1, 1, -1, -1, -1 }) do
  sum = sum + sign * tonumber(found[i] or '0')
end
return cmsgpack.pack(math.max(0, sum))
