-- Leases due deliveries; lanes take turns, round after round.
--
-- ARGV: 5 the token, 6 the node, 7 how many, 8 the lease in ms, 9 what one lane hands out, 10 free
-- slots as [lane, slots, ...], 11 free slots of every other lane, 12 lanes to look at even though
-- they were put off, 13 how many lanes to look at, 14 how long a full lane is put off.
-- Answers [more, ms to the next look (-1: none), then [[lane, [member, record, ...]], ...]]. Nothing of
-- a closed lane is looked at, whatever waits in it.
local before = answered()
if before then return before end
if not marks() then return EPOCH end
local want, quantum, look = tonumber(ARGV[7]), tonumber(ARGV[9]), tonumber(ARGV[13])
local slots, other = {}, tonumber(ARGV[11])
local listed = cmsgpack.unpack(ARGV[10])
for i = 1, #listed, 2 do slots[text(listed[i])] = listed[i + 1] end
local lanes = base .. 'lanes'

local found, seen = {}, {}
for _, lane in ipairs(cmsgpack.unpack(ARGV[12])) do
  local name = text(lane)
  if not seen[name] and redis.call('ZSCORE', lanes, name) then
    seen[name] = true
    found[#found + 1] = name
  end
end
local pulled = #found
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', lanes, '-inf', text(now), 'LIMIT', 0, look)) do
  if not seen[lane] then found[#found + 1] = lane end
end
local more = #found - pulled >= look
-- Lanes that were visited and have more go behind those that were not, in the order of their turns.
local turn = 0
local function again_now()
  turn = turn + 1
  return string.format('%.3f', now - 0.999 + turn * 0.001)
end

local taken, handed, held, given = 0, {}, {}, {}
-- Lets a lane hand out its share; whether it is to have another turn.
local function visit(lane)
  local until_ = shut_until(lane)
  if until_ > now then
    redis.call('ZADD', lanes, text(until_), lane)
    return false
  elseif until_ > 0 then
    redis.call('HDEL', base .. 'shut', lane)
  end
  local key = base .. 'lane:' .. lane
  local free = (lane == '0' and want or slots[lane] or other) - (given[lane] or 0)
  if free <= 0 then
    if redis.call('EXISTS', key) == 1 then
      redis.call('ZADD', lanes, text(now + ARGV[14]), lane)
    else
      redis.call('ZREM', lanes, lane)
    end
    return false
  end
  local share = math.min(quantum, free, want - taken)
  local members = redis.call('ZRANGEBYSCORE', key, '-inf', text(now), 'LIMIT', 0, share)
  if #members > 0 then
    redis.call('ZREM', key, unpack(members))
    local tenant = redis.call('HGET', base .. 'own', lane) or ''
    local items = {}
    for _, name in ipairs(members) do
      local n = string.match(name, '^%d+')
      local field = lane .. string.sub(name, #n + 1)
      local value = redis.call('HGET', base .. 'x:' .. n, field)
      if value then
        if lane == '0' then value = redis.call('HGET', base .. 'x:' .. n, '*') or '' end
        items[#items + 1] = name
        items[#items + 1] = value
        held[#held + 1] = n .. '.' .. field
        held[#held + 1] = tenant
        taken = taken + 1
      end
    end
    handed[#handed + 1] = { lane, items }
    given[lane] = (given[lane] or 0) + #members
  end
  local next = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if not next then
    redis.call('ZREM', lanes, lane)
  elseif tonumber(next) > now then
    redis.call('ZADD', lanes, next, lane)
  elseif #members >= free then
    redis.call('ZADD', lanes, text(now + ARGV[14]), lane)
  else
    redis.call('ZADD', lanes, again_now(), lane)
    return true
  end
  return false
end
local i = 1
while found[i] do
  local lane = found[i]
  if taken >= want then
    more = more or i > pulled or redis.call('ZSCORE', lanes, lane) + 0 <= now
    break
  end
  if visit(lane) then found[#found + 1] = lane end
  i = i + 1
end
if taken > 0 then
  local b = base .. 'b:' .. ARGV[5]
  redis.call('HSET', b, '@', ARGV[6], 'k', 1, 'f', 0, 'l', 0, 'o', 0, 'n', taken, unpack(held))
  redis.call('ZADD', base .. 'lease', text(now + ARGV[8]), ARGV[5])
end
local next = redis.call('ZRANGE', lanes, 0, 0, 'WITHSCORES')[2]
local reply = { more, next and math.max(0, math.ceil(next - now)) or -1, handed }
if taken == 0 then return cmsgpack.pack(reply) end
return answer(reply)
