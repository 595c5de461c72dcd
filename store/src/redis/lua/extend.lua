-- Moves the end of leases. ARGV: 5 the lease in ms, then tokens. Answers those that are gone.
if not marks() then return EPOCH end
local gone, lease = {}, base .. 'lease'
for i = 6, #ARGV do
  local score = redis.call('ZSCORE', lease, ARGV[i])
  if score and tonumber(score) > 0 then
    redis.call('ZADD', lease, 'XX', text(now + ARGV[5]), ARGV[i])
  else
    gone[#gone + 1] = ARGV[i]
  end
end
return cmsgpack.pack(gone)
