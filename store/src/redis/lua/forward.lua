-- Makes waiting deliveries due now. ARGV from 5 on, three each: the event's number, its time, the
-- delivery's field. Answers for each: D done, W its time had come already, I in flight, H held back
-- as a suspect, N not pending.
if not marks() then return EPOCH end

local function forward(n, ms, field)
  local lane, number = lane_of(field), tonumber(n)
  local entry, id = entry_of(n)
  if lane == '0' or id ~= id_of(n, ms) then return 'N' end
  local value = redis.call('HGET', base .. 'x:' .. n, field)
  if not value then
    if tag_of(field) ~= '' then return 'N' end
    local waits, held =
      unpack(redis.call('HMGET', runs_key(from_of(number)), lane, held_field(lane)))
    if waits and bit_in(waits, 1, number) then return 'W' end
    return held and bit_in(held, 1, number) and 'I' or 'N'
  end
  local letter, attempts, created, _, code = parse(value)
  if letter ~= 'P' then return 'N' end
  local due = redis.call('ZSCORE', base .. 'lane:' .. lane, member(n, field))
  if not due then return 'I' end
  if tonumber(due) <= now then return 'W' end
  if code == SUSPECT then return 'H' end
  redis.call('HSET', base .. 'x:' .. n, field, record('P', attempts, created, now, QUEUED))
  arrive(field, n, now, redis.call('HGET', base .. 'own', lane) or tenant_of(entry))
  return 'D'
end

local reply, some = {}, false
for i = 5, #ARGV, 3 do
  local answer = forward(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  some = some or answer == 'D'
  reply[#reply + 1] = answer
end
if some then
  write_lanes()
  ring()
end
return cmsgpack.pack(reply)
