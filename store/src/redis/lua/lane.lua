-- A lane number that was never given before. Sent again, it gives the next one.
if redis.call('EXISTS', KEYS[1]) == 0 then return emptied() end
return cmsgpack.pack(redis.call('HINCRBY', KEYS[1], 'lane', 1))
