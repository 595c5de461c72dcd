-- Closes and opens lanes; touches nothing that waits in them. ARGV: 5 [lane, ms, why, ...] to
-- close, 6 [lane, ...] to open.
if not marks() then return EPOCH end
local close, open = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])
for i = 1, #close, 3 do close_lane(text(close[i]), now + close[i + 1], close[i + 2]) end
for _, number in ipairs(open) do
  local lane = text(number)
  redis.call('HDEL', base .. 'shut', lane)
  if redis.call('EXISTS', base .. 'lane:' .. lane) == 1 then
    redis.call('ZADD', base .. 'lanes', 'XX', text(now), lane)
  end
end
if #open > 0 then ring() end
return cmsgpack.pack(true)
