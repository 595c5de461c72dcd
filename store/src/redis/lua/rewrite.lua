-- Puts a chunk that was written anew in the place of what it was. ARGV: 5 the letter of its
-- stream, 6 its id there, 7 its name, 8 the chunk, 9 what it was, if it lay beside the stream
-- already. An entry of a stream cannot be changed, nor put back: what was written anew lies beside
-- it. Answers whether it was still what it was.
if not marks() then return EPOCH end
if ARGV[9] == '' then
  if redis.call('XDEL', LOGS[ARGV[5]], ARGV[6]) == 0 then return cmsgpack.pack(false) end
elseif redis.call('HGET', base .. 're', ARGV[7]) ~= ARGV[9] then
  return cmsgpack.pack(false)
end
redis.call('HSET', base .. 're', ARGV[7], ARGV[8])
return cmsgpack.pack(true)
