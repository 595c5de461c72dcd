-- Writes entries of the audit log that come with no commit. ARGV: 2 key of this call; then for each
-- class, id and what it says behind its revision. Sent again it does the same.
if redis.call('EXISTS', KEYS[1]) == 0 then return emptied() end
for i = 3, #ARGV, 3 do put_audit(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
redis.call('SET', ARGV[2], '', 'PX', 600000)
return cmsgpack.pack(1)
