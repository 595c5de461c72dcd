-- Begins a tenant's counters anew; those of all tenants are their sums. ARGV: 5 the tenant, 6 the
-- moment from which accept times go on, or '' to look only. Answers what was accepted for it, what
-- is outstanding, and a moment behind every accept time so far.
local m = marks('lms')
if not m then return EPOCH end
local found = read_books(ARGV[5])
local events, pending = left_of(found)
local outstanding = events + pending
if ARGV[6] ~= '' and outstanding <= 0 then
  for i, name in ipairs(BOOKS) do
    if found[i] ~= 0 then redis.call('HINCRBY', books_key(''), name, -found[i]) end
  end
  redis.call('DEL', books_key(ARGV[5]))
  if m[1] < tonumber(ARGV[6]) then redis.call('HSET', KEYS[1], 'lms', ARGV[6]) end
end
return cmsgpack.pack({ found[1], math.max(0, outstanding), math.max(now, m[1]) + 1 })
