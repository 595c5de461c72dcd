-- Trims the head of the history. ARGV: 5 the highest number that may go, 6 how many at most,
-- 7 failed deliveries that ended before this (ms) need not be kept, 8 when to look at a spared
-- event again, in ms.
-- Answers [the trim mark, whether there is more]. Nothing goes that is not matched, that has a
-- pending delivery or a failed one which is kept longer: such an event's entry is saved first.
local m = marks('cur', 'trim')
if not m then return EPOCH end
local bound, from = math.min(m[1], tonumber(ARGV[5])), m[2]
for _, token in ipairs(redis.call('ZRANGE', base .. 'lease', 0, -1)) do
  local first = tonumber(redis.call('HGET', base .. 'b:' .. token, 'f') or '0')
  if first > 0 then bound = math.min(bound, first - 1) end
end
local to = math.min(bound, from + tonumber(ARGV[6]))

local failed_from = tonumber(ARGV[7])
-- What runs say of events, by their first number: those that have to stay, and those that go, where
-- some of them ended together.
local kept, going = {}, {}
local function stays_by_runs(n)
  local number = tonumber(n)
  local from = from_of(number)
  if not kept[from] then
    local some
    kept[from], some = kept_by_runs(from, failed_from)
    going[from] = some and no_bits() or nil
  end
  if has(kept[from], number) then return true end
  if going[from] then insert(going[from], number) end
  return false
end
-- Whether an event has to stay; if not, its records and what leads to them go.
local function stays(n)
  local x = base .. 'x:' .. n
  if stays_by_runs(n) then return true end
  local flat = redis.call('HGETALL', x)
  for i = 1, #flat, 2 do
    local letter, _, _, at = parse(flat[i + 1])
    if not letter or letter == 'P' or letter == 'F' and at >= failed_from then
      local from = from_of(n)
      if going[from] then remove(going[from], n) end
      return true
    end
  end
  for i = 1, #flat, 2 do
    if letter_of(flat[i + 1]) == 'F' then
      redis.call('ZREM', base .. 'fail:' .. lane_of(flat[i]), member(n, flat[i]))
    end
  end
  if #flat > 0 then redis.call('DEL', x) end
  return false
end

-- Events that were spared before.
local SPARED = 200
local spared = redis.call('ZRANGEBYSCORE', base .. 'old', '-inf', text(now), 'LIMIT', 0, SPARED)
for _, n in ipairs(spared) do
  if stays(n) then
    redis.call('ZADD', base .. 'old', text(now + ARGV[8]), n)
  else
    redis.call('DEL', base .. 'body:' .. n)
    redis.call('ZREM', base .. 'old', n)
  end
end
local function forget_going()
  for first, events in pairs(going) do
    if not empty(events) then forget_ended(first, events) end
  end
end
-- What lies beside the stream does not go with it: all below a number, also what was left by who
-- trimmed and did not know of it. What has to stay is spared before.
local BESIDE = 1000
local function forget_beside(last)
  local ids = redis.call('ZRANGEBYSCORE', base .. 'tomb', '-inf', text(last), 'LIMIT', 0, BESIDE)
  for _, id in ipairs(ids) do
    local n = parse_id(id)
    if not redis.call('ZSCORE', base .. 'old', n) then redis.call('DEL', base .. 'body:' .. n) end
    redis.call('ZREM', base .. 'tomb', id)
  end
  return #ids == BESIDE
end
if to <= from then
  forget_going()
  local more = forget_beside(from)
  return cmsgpack.pack({ text(from), more or #spared == SPARED })
end

local keys = {}
for n = from + 1, to do keys[#keys + 1] = base .. 'x:' .. text(n) end
for first = from_of(from + 1), to, 256 do keys[#keys + 1] = runs_key(first) end
if redis.call('EXISTS', unpack(keys)) > 0 then
  for n = from + 1, to do
    local name = text(n)
    if stays(name) then
      local entry, id = entry_of(name)
      if entry then
        local _, ms = parse_id(id)
        redis.call('SET', base .. 'body:' .. name, saved_text(ms, entry))
        redis.call('ZADD', base .. 'old', text(now + ARGV[8]), name)
      end
    end
  end
end
local more_beside = forget_beside(to)
forget_going()
redis.call('XTRIM', base .. 'ev', 'MINID', text(to + 1))
redis.call('HSET', KEYS[1], 'trim', text(to))
local page = unmatched_key(from + 1)
if page ~= unmatched_key(to + 1) then redis.call('UNLINK', page) end
return cmsgpack.pack({ text(to), to < bound or more_beside or #spared == SPARED })
