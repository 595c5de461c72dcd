-- Drops what has outlived its use. ARGV: 5 how long calls of a process are remembered in ms, 6 how
-- long the mark of a cancelled delivery is left alone, 7 buckets of ids at most. Answers whether
-- there is more.
local m = marks('cur', 'uz', 'uo', 'uw')
if not m then return EPOCH end
local flat = redis.call('HGETALL', base .. 'op')
for i = 1, #flat, 2 do
  local _, at = read_answered(flat[i + 1])
  if now - at > tonumber(ARGV[5]) then redis.call('HDEL', base .. 'op', flat[i]) end
end
if redis.call('EXISTS', base .. 'kill') == 1 then
  -- Some of them by chance: so each comes up, however many there are.
  local scanned = redis.call('HRANDFIELD', base .. 'kill', 200, 'WITHVALUES')
  for i = 1, #scanned, 2 do
    local n, field = parse_name(scanned[i])
    local _, at = read_mark(scanned[i + 1])
    if now - at > tonumber(ARGV[6]) then
      local value = redis.call('HGET', base .. 'x:' .. n, field)
      local flying
      if value then
        flying = letter_of(value) == 'P'
          and not redis.call('ZSCORE', base .. 'lane:' .. lane_of(field), member(n, field))
      else
        local runs = redis.call('HMGET', runs_key(from_of(n)), field, held_field(field))
        flying = runs[2] and bit_in(runs[2], 1, n)
          or not (runs[1] and bit_in(runs[1], 1, n))
            and (tonumber(n) > m[1] or holder(tonumber(n)) ~= nil)
      end
      if not flying then redis.call('HDEL', base .. 'kill', scanned[i]) end
    end
  end
end
-- Ids of scheduled events, two windows after their times: the earliest are at the head.
local SCHEDULES = 500
local over = redis.call('ZRANGEBYSCORE', base .. 'ut', '-inf', text(now - 2 * m[4]), 'LIMIT', 0,
  SCHEDULES)
if #over > 0 then
  redis.call('ZREM', base .. 'ut', unpack(over))
  redis.call('HDEL', base .. 'uk', unpack(over))
  if redis.call('EXISTS', base .. 'ut') == 0 then redis.call('HDEL', KEYS[1], 'ux') end
  if #over == SCHEDULES then return cmsgpack.pack(true) end
end
-- Windows of ids: the current one and two before it are asked, all others go.
if m[4] == 0 then return cmsgpack.pack(false) end
local window = math.floor(now / m[4])
local oldest = m[3]
if oldest >= window - 2 then return cmsgpack.pack(false) end
local bits = redis.call('HGET', KEYS[1], 'ub:' .. oldest)
local buckets, from = bits and 2 ^ bits or 0, m[2]
local to = math.min(buckets, from + ARGV[7])
local names = {}
for i = from, to - 1 do names[#names + 1] = bucket_key(oldest, i) end
if #names > 0 then redis.call('UNLINK', unpack(names)) end
if to < buckets then
  redis.call('HSET', KEYS[1], 'uz', text(to), 'uo', text(oldest))
else
  redis.call('HDEL', KEYS[1], 'uz', 'ub:' .. text(oldest), 'uc:' .. text(oldest))
  redis.call('HSET', KEYS[1], 'uo', text(oldest + 1))
end
return cmsgpack.pack(true)
