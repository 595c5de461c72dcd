-- Makes deliveries, due now, of matched events that have none to a lane. ARGV: 5 `1` to make them, ''
-- to look alone; from 6 on, three each: the event's number, its time, the lane.
-- Answers for each: 1 made, or missing; 0 there is one, -1 no such event, or one that was erased or
-- spared from trimming, -2 still to be matched.
-- What succeeded at once is told by the log alone. Who calls looks there between a look and the
-- making: what was in no record and no run at the look, and not in the log after it, was nowhere.
local m = marks('cur', 'trim')
if not m then return EPOCH end
local make = ARGV[5] == '1'

-- Ranges of events that batches hold, read once.
local ranges
local function is_held(n)
  if not ranges then
    ranges = {}
    for _, token in ipairs(redis.call('ZRANGE', base .. 'lease', 0, -1)) do
      local key = base .. 'b:' .. token
      local found = redis.call('HMGET', key, 'f', 'l')
      local first, last = tonumber(found[1] or '0'), tonumber(found[2] or '0')
      if first > 0 then ranges[#ranges + 1] = { first, last, key } end
    end
  end
  for _, range in ipairs(ranges) do
    if range[1] <= n and n <= range[2]
      and redis.call('HEXISTS', range[3], text(n - range[1])) == 0 then
      return true
    end
  end
  return false
end

-- What runs say of a lane's deliveries, read once: what waits, what is held, what ended.
local known = {}
local function in_run(n, lane)
  local key, name = runs_key(from_of(n)), from_of(n) .. '.' .. lane
  local run = known[name]
  if not run then
    run = redis.call('HMGET', key, lane, held_field(lane), ended_field(lane))
    known[name] = run
  end
  local waits, held, ended = run[1], run[2], run[3]
  return waits and bit_in(waits, 1, n) or held and bit_in(held, 1, n)
    or ended and ended_in(ended, n) ~= nil
end

local function fill(n, ms, lane)
  local number = tonumber(n)
  if number <= m[2] or lane == '0' then return -1 end
  local entry, id = entry_of(n)
  if not entry or is_erased(entry) or id ~= id_of(n, ms) then return -1 end
  local x = base .. 'x:' .. n
  if number > m[1] or redis.call('HEXISTS', x, '0') == 1 or is_held(number) then return -2 end
  if redis.call('HEXISTS', x, lane) == 1 or in_run(number, lane) then return 0 end
  if not make then return 1 end
  local tenant = tenant_of(entry)
  redis.call('HSET', x, lane, record('P', 0, now, now, QUEUED))
  if redis.call('GETBIT', unmatched_key(number), number % 65536) == 1 then
    redis.call('SETBIT', unmatched_key(number), number % 65536, 0)
    count(tenant, 'u', -1)
    count(tenant, 'm', 1)
  end
  count(tenant, 'c', 1)
  pend(number, 1)
  arrive(lane, n, now, tenant)
  return 1
end

local reply, some = {}, false
for i = 6, #ARGV, 3 do
  local answer = fill(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  some = some or answer == 1
  reply[#reply + 1] = answer
end
if make and some then
  write_counts()
  write_lanes()
  ring()
end
return cmsgpack.pack(reply)
