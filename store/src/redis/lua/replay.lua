-- Makes new deliveries of old events, due now. ARGV from 5 on, four each: the event's number, its
-- time, the new delivery's field, and the field of the old one where none is made that the event
-- does not need, else ''. Answers for each: 1 made, 0 was there before, -1 no such event, or an
-- erased one,
-- -2 not needed, -3 not looked at.
if not marks() then return EPOCH end

-- Records that one call reads at most, beside those of its first event: some 10 ms.
local LOOK = 20000

-- An event's records by lane, read once.
local looked, known = 0, {}
local function records_of(n)
  if known[n] then return known[n] end
  if looked > 0 and looked + redis.call('HLEN', base .. 'x:' .. n) > LOOK then return nil end
  local found, by_lane = redis.call('HGETALL', base .. 'x:' .. n), {}
  looked = looked + 1 + #found / 2
  for i = 1, #found, 2 do
    local lane = lane_of(found[i])
    if lane then
      by_lane[lane] = by_lane[lane] or {}
      by_lane[lane][found[i]] = found[i + 1]
    end
  end
  known[n] = by_lane
  return by_lane
end

-- Whether another delivery of the lane is pending, or was made after the old one and succeeded. The
-- one that the publish made may be in a run.
local function served(records, n, ms, field, old)
  local lane = lane_of(field)
  local own = records[lane] or {}
  local _, _, since = parse(own[old] or '')
  local waits, held, ended =
    unpack(redis.call('HMGET', runs_key(from_of(n)), lane, held_field(lane), ended_field(lane)))
  if old ~= lane then
    if waits and bit_in(waits, 1, n) or held and bit_in(held, 1, n) then return true end
  elseif not since then
    local letter, _, _, began
    if ended then letter, _, _, began = ended_in(ended, n) end
    if letter then since = math.max(began, ms) end
  end
  for other, value in pairs(own) do
    local letter, _, create = parse(value)
    if other ~= old
      and (letter == 'P' or letter == 'S' and create >= (since or 0)) then
      return true
    end
  end
  return false
end

local reply = {}
for i = 5, #ARGV, 4 do
  local n, field, old = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local entry, id = entry_of(n)
  local records = old ~= '' and records_of(n)
  if not entry or is_erased(entry) or id ~= id_of(n, ARGV[i + 1]) or lane_of(field) == '0' then
    reply[#reply + 1] = -1
  elseif redis.call('HEXISTS', base .. 'x:' .. n, field) == 1 then
    reply[#reply + 1] = 0
  elseif old ~= '' and not records then
    reply[#reply + 1] = -3
  elseif records and served(records, tonumber(n), tonumber(ARGV[i + 1]), field, old) then
    reply[#reply + 1] = -2
  else
    local tenant, value = tenant_of(entry), record('P', 0, now, now, QUEUED)
    redis.call('HSET', base .. 'x:' .. n, field, value)
    if records then
      local lane = lane_of(field)
      records[lane] = records[lane] or {}
      records[lane][field] = value
    end
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
