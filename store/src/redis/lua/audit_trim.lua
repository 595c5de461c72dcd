-- Removes entries of the audit log, from the oldest on. ARGV: 2 the class; 3 what entries that are
-- too old are below; 4 entries and 5 bytes that are kept at most; 6 how many may go. Answers how
-- many went.
local ids, class = tag .. 'aids:' .. ARGV[2], ARGV[2]
local count = redis.call('ZCARD', ids)
local size = tonumber(redis.call('HGET', tag .. 'asize', class) or '0')
local gone = 0
for _, id in ipairs(redis.call('ZRANGE', ids, 0, tonumber(ARGV[6]) - 1)) do
  local held = count <= tonumber(ARGV[4]) and size <= tonumber(ARGV[5])
  if held and not (id < ARGV[3]) then break end
  size = size - redis.call('HSTRLEN', tag .. 'audit', id)
  redis.call('HDEL', tag .. 'audit', id)
  redis.call('ZREM', ids, id)
  count, gone = count - 1, gone + 1
end
if gone > 0 then redis.call('HSET', tag .. 'asize', class, whole(size)) end
return cmsgpack.pack(gone)
