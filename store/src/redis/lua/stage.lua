-- Where events stand. ARGV from 5 on: their numbers. Answers for each: '' waiting, '.' matched, or
-- the node that has it.
local m = marks('cur')
if not m then return EPOCH end
local reply = {}
for i = 5, #ARGV do
  local n = ARGV[i]
  if tonumber(n) > m[1] then
    reply[#reply + 1] = ''
  else
    local node = holder(tonumber(n))
    local waits = not node and redis.call('HEXISTS', base .. 'x:' .. n, '0') == 1
    reply[#reply + 1] = node or waits and '' or '.'
  end
end
return cmsgpack.pack(reply)
