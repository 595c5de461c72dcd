-- Takes test sends, oldest first; each is handed out once. ARGV: 5 the node, 6 how many at most.
-- Answers tickets, and for how many ms each is still waited for, in turn. What may not be taken
-- any more is passed over: who asked withdraws it, or it expires.
local before = answered()
if before then return before end
if not marks() then return EPOCH end
local taken = {}
while #taken < ARGV[6] * 2 do
  local ticket = redis.call('LPOP', base .. 'tests')
  if not ticket then break end
  local till = redis.call('HMGET', base .. 'test:' .. ticket, 't', 'w')
  if till[1] and tonumber(till[1]) > now then
    redis.call('HSET', base .. 'test:' .. ticket, 'by', ARGV[5])
    taken[#taken + 1] = ticket
    taken[#taken + 1] = text(math.max(till[2] - now, 0))
  end
end
if redis.call('EXISTS', base .. 'tests') == 1 then ring() end
return answer(taken)
