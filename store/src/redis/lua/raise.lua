-- Raises the store to a form, if every node that is there knows it. ARGV: 2 the form. Answers 1 if
-- the store has it then.
local found = redis.call('HGET', KEYS[1], 'schema')
if not found then return cmsgpack.pack(0) end
if tonumber(found) >= tonumber(ARGV[2]) then return cmsgpack.pack(1) end
-- A node says with each heartbeat that it knows this release's form; one of an earlier release does
-- not, even if a later one had its name before.
local seen = redis.call('ZRANGE', tag .. 'seen', 0, -1, 'WITHSCORES')
for i = 1, #seen, 2 do
  local known = redis.call('HGET', tag .. 'knows', seen[i])
  if not known or tonumber(known) ~= tonumber(seen[i + 1]) then return cmsgpack.pack(0) end
end
redis.call('HSET', KEYS[1], 'schema', ARGV[2])
return cmsgpack.pack(1)
