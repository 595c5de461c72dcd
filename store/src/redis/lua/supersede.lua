-- Begins a tenant's counters anew; those of all tenants are their sums. ARGV: 5 the tenant, 6 the
-- moment from which accept times go on, or '' to look only. Answers what was accepted for it, what
-- is outstanding, and a moment behind every accept time so far.
local m = marks('lms')
if not m then return EPOCH end
local counters = base .. 'n:' .. ARGV[5]
local names = { 'a', 'm', 'u', 'c', 's', 'f', 'x' }
local found = redis.call('HMGET', counters, unpack(names))
for i = 1, 7 do found[i] = tonumber(found[i] or '0') end
local outstanding = found[1] - found[2] - found[3] + found[4] - found[5] - found[6] - found[7]
if ARGV[6] ~= '' and outstanding <= 0 then
  for i, name in ipairs(names) do
    if found[i] ~= 0 then redis.call('HINCRBY', base .. 'n', name, -found[i]) end
  end
  redis.call('DEL', counters)
  if m[1] < tonumber(ARGV[6]) then redis.call('HSET', KEYS[1], 'lms', ARGV[6]) end
end
return cmsgpack.pack({ found[1], math.max(0, outstanding), math.max(now, m[1]) + 1 })
