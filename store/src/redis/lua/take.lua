-- Leases the next new events. ARGV: 5 the token, 6 the node, 7 how many, 8 the lease in ms, 9 for how
-- long a lane is on trial that a breaker had closed.
-- Answers [first, last, closed]: the numbers, the cursor and 0 for none; and [lane, ms left, why,
-- ...] of lanes that are closed just now or on trial, 200 of them at most, by chance.
local before = answered()
if before then return before end
local m = marks('cur', 'last')
if not m then return EPOCH end
local cur, last = m[1], m[2]
if cur >= last then return cmsgpack.pack({ text(cur), '0', {} }) end
local first, to = cur + 1, math.min(cur + ARGV[7], last)
redis.call('HSET', KEYS[1], 'cur', text(to))
redis.call('HSET', base .. 'b:' .. ARGV[5], '@', ARGV[6], 'k', 1, 'f', text(first), 'l', text(to),
  'o', text(first), 'n', text(to - cur))
redis.call('ZADD', base .. 'lease', text(now + ARGV[8]), ARGV[5])
if to < last then ring() end
local closed = {}
if redis.call('EXISTS', base .. 'shut') == 1 then
  local flat, over = redis.call('HRANDFIELD', base .. 'shut', 200, 'WITHVALUES'), {}
  for i = 1, #flat, 2 do
    local till, why = read_shut(flat[i + 1])
    if till > now or why == BREAKER_OPEN and now - till < tonumber(ARGV[9]) then
      closed[#closed + 1] = tonumber(flat[i])
      closed[#closed + 1] = math.max(0, till - now)
      closed[#closed + 1] = why
    elseif till <= now then
      over[#over + 1] = flat[i]
    end
  end
  -- A lane in which nothing waits any more is looked at by nobody else.
  if #over > 0 then redis.call('HDEL', base .. 'shut', unpack(over)) end
end
return answer({ text(first), text(to), closed })
