-- Gives batches back: they lapse at once, and the next take of them does not count. ARGV: tokens
-- from 5 on.
if not marks() then return EPOCH end
for i = 5, #ARGV do
  if redis.call('ZSCORE', base .. 'lease', ARGV[i]) then
    redis.call('ZADD', base .. 'lease', 0, ARGV[i])
    redis.call('HSET', base .. 'b:' .. ARGV[i], 'R', '1')
  end
end
ring()
return cmsgpack.pack(true)
