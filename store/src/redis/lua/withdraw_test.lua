-- Ends a test send. ARGV: 5 its ticket; 6 '1': whatever became of it, '0': unless it was taken;
-- 7 for how many ms a mark stays, so that a late copy of the request is not a new one. Answers
-- whether it was taken.
if not marks() then return EPOCH end
local test = base .. 'test:' .. ARGV[5]
local taken = redis.call('HEXISTS', test, 'by') == 1
if taken and ARGV[6] == '0' then return cmsgpack.pack(true) end
redis.call('LREM', base .. 'tests', 1, ARGV[5])
redis.call('DEL', test, base .. 'res:' .. ARGV[5])
redis.call('HSET', test, 'over', '1')
redis.call('PEXPIRE', test, ARGV[7])
return cmsgpack.pack(taken)
