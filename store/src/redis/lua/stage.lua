-- Where events stand. ARGV from 5 on: their numbers. Answers for each: '' waiting, '.' matched, '>'
-- scheduled, '!' called off, or the node that has it.
local m = marks('cur')
if not m then return EPOCH end
local reply = {}
for i = 5, #ARGV do
  local n = ARGV[i]
  if tonumber(n) > m[1] then
    reply[#reply + 1] = ''
  else
    local node = holder(tonumber(n))
    local value = not node and redis.call('HGET', base .. 'x:' .. n, '0')
    if not value then
      reply[#reply + 1] = node or '.'
    elseif letter_of(value) == 'C' then
      reply[#reply + 1] = '!'
    else
      reply[#reply + 1] = is_scheduled(value) and '>' or ''
    end
  end
end
return cmsgpack.pack(reply)
