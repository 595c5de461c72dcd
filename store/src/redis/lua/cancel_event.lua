-- Calls an event off whose time has not come. ARGV: 5 its number, 6 its time, 7 why.
-- Answers D done, U unknown, H nobody put it on its schedule yet or somebody matches it just now, or
-- O: it was matched, or was never scheduled.
local m = marks('cur')
if not m then return EPOCH end
local n = ARGV[5]
local entry, id = entry_of(n)
if id ~= id_of(n, ARGV[6]) then return cmsgpack.pack('U') end
local value = redis.call('HGET', base .. 'x:' .. n, '0')
if value and letter_of(value) == 'C' then return cmsgpack.pack('D') end
if value and call_off(n, tenant_of(entry), value, ARGV[7]) then
  if redis.call('EXISTS', base .. 'lane:0') == 0 then redis.call('ZREM', base .. 'lanes', '0') end
  write_counts()
  return cmsgpack.pack('D')
end
local open = value or tonumber(n) > m[1] or holder(tonumber(n))
return cmsgpack.pack(open and 'H' or 'O')
