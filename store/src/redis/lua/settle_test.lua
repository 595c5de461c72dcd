-- Answers a test send that was taken and is waited for. ARGV: 5 its ticket, 6 the answer, 7 for how
-- many ms it is kept. Answers whether anybody may read it. The first answer counts.
if not marks() then return EPOCH end
local res = base .. 'res:' .. ARGV[5]
if redis.call('HEXISTS', base .. 'test:' .. ARGV[5], 'by') == 0 then return cmsgpack.pack(false) end
if redis.call('EXISTS', res) == 0 then
  redis.call('RPUSH', res, ARGV[6])
  redis.call('PEXPIRE', res, ARGV[7])
end
return cmsgpack.pack(true)
