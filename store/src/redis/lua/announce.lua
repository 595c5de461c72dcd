-- A node says how it is, and nodes that nobody heard of for long are forgotten.
--
-- ARGV: 2 id; 3 status; 4 after how many ms a node is forgotten.
local seen, nodes = tag .. 'seen', tag .. 'nodes'
local old = redis.call('ZRANGEBYSCORE', seen, '-inf', '(' .. whole(now - tonumber(ARGV[4])),
  'LIMIT', 0, 100)
for _, id in ipairs(old) do
  redis.call('ZREM', seen, id)
  redis.call('HDEL', nodes, id)
  redis.call('HDEL', tag .. 'knows', id)
end
redis.call('ZADD', seen, whole(now), ARGV[2])
redis.call('HSET', tag .. 'knows', ARGV[2], whole(now))
redis.call('HSET', nodes, ARGV[2], stamped_text(whole(now), ARGV[3]))
return cmsgpack.pack(now)
