-- Begins a store, unless there is one.
--
-- ARGV: 2 epoch; 3 partitions; 4 schema. Answers {1 if it is new, epoch, partitions, schema}.
-- Revisions begin at the time in ms: those of an earlier life, which somebody may still hold, are
-- below, and no life commits a thousand times a second.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'partitions', 'schema')
if found[1] then
  return cmsgpack.pack({0, found[1], tonumber(found[2]), tonumber(found[3])})
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'partitions', ARGV[3], 'schema', ARGV[4],
  'base', whole(now), 'start', whole(now))
return cmsgpack.pack({1, ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])})
