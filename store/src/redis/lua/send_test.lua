-- Hands a test send over. ARGV: 5 its ticket, 6 what is to be sent, 7 within how many ms it may be
-- taken, 8 for how many ms it is waited for, 9 how many may wait, 10 for how many ms more it is
-- kept. Answers whether there was room. A copy of this call finds the test, or the mark that it
-- was withdrawn, and does nothing.
if not marks() then return EPOCH end
local tests, test = base .. 'tests', base .. 'test:'
if redis.call('EXISTS', test .. ARGV[5]) == 1 then return cmsgpack.pack(true) end
local most = tonumber(ARGV[9])
if redis.call('LLEN', tests) >= most then
  -- Those whose askers went without a word.
  for _, ticket in ipairs(redis.call('LRANGE', tests, 0, -1)) do
    local till = redis.call('HGET', test .. ticket, 't')
    if not till or tonumber(till) <= now then redis.call('LREM', tests, 1, ticket) end
  end
  if redis.call('LLEN', tests) >= most then return cmsgpack.pack(false) end
end
local kept = ARGV[8] + ARGV[10]
redis.call('HSET', test .. ARGV[5], 'p', ARGV[6], 't', text(now + ARGV[7]), 'w', text(now + ARGV[8]))
redis.call('PEXPIRE', test .. ARGV[5], text(kept))
redis.call('RPUSH', tests, ARGV[5])
if redis.call('PTTL', tests) < kept then redis.call('PEXPIRE', tests, text(kept)) end
ring()
return cmsgpack.pack(true)
