-- Lets runs begin: the epoch gets a last byte that processes which do not know runs cannot repeat.
if not marks() then return EPOCH end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2] .. KNOWS_RUNS)
return cmsgpack.pack(true)
