-- Makes new deliveries of old events, due now. ARGV from 5 on, three each: the event's number, its
-- time, the new delivery's field. Answers for each: 1 made, 0 was there before, -1 no such event.
if not marks() then return EPOCH end
local reply = {}
for i = 5, #ARGV, 3 do
  local n, field = ARGV[i], ARGV[i + 2]
  local entry, id = entry_of(n)
  if not entry or id ~= n .. '-' .. ARGV[i + 1] or lane_of(field) == '0' then
    reply[#reply + 1] = -1
  elseif redis.call('HSETNX', base .. 'x:' .. n, field, record('P', 0, now, now, QUEUED)) == 0 then
    reply[#reply + 1] = 0
  else
    local tenant = tenant_of(entry)
    count(tenant, 'c', 1)
    pend(n, 1)
    arrive(field, n, now, tenant)
    reply[#reply + 1] = 1
  end
end
write_counts()
write_lanes()
ring()
return cmsgpack.pack(reply)
