-- Ends waiting deliveries of a lane. ARGV: 5 the lane, 6 the letter, 7 why, 8 only those created
-- before (ms; 0: all), 9 how many, 10 how many to pass over, 11 how many to look at.
-- Answers [how many ended, how many were looked at and stay, whether that was the last of them].
local m = marks('dk')
if not m then return EPOCH end
local lane, limit, offset = ARGV[5], tonumber(ARGV[9]), tonumber(ARGV[10])
local before, look = tonumber(ARGV[8]), tonumber(ARGV[11])
local key = base .. 'lane:' .. lane
local members = redis.call('ZRANGE', key, offset, offset + look - 1)
local tenant = redis.call('HGET', base .. 'own', lane) or ''
local ended, stay, last = {}, 0, #members < look
for _, name in ipairs(members) do
  if #ended == limit then
    last = false
    break
  end
  local n = string.match(name, '^%d+')
  local field = lane .. string.sub(name, #n + 1)
  local value = redis.call('HGET', base .. 'x:' .. n, field)
  local _, attempts, created = parse(value or '')
  if created and (before == 0 or created < before) then
    ended[#ended + 1] = name
    finish(n, field, tenant, ARGV[6], attempts, created, ARGV[7])
    tell(n, field, tenant, ARGV[6], attempts, created, ARGV[7])
  else
    stay = stay + 1
  end
end
if #ended > 0 then redis.call('ZREM', key, unpack(ended)) end
if redis.call('EXISTS', key) == 0 then redis.call('ZREM', base .. 'lanes', lane) end
write_ends(m[1])
write_counts()
return cmsgpack.pack({ #ended, stay, last })
