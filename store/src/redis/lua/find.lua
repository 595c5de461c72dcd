-- The event that a given id names. ARGV: 5 the hash, 6 the bucket.
-- Answers its number and time as they stand in its id, or ''.
local m = marks('uw', 'ux')
if not m then return EPOCH end
if m[1] == 0 then return cmsgpack.pack('') end -- no id was given yet
local window = math.floor(now / m[1])
for i = 0, 2 do
  local bits = redis.call('HGET', KEYS[1], 'ub:' .. window - i)
  if bits then
    local value = redis.call('HGET', bucket_key(window - i, ARGV[6] % 2 ^ bits), ARGV[5])
    if value then return cmsgpack.pack(select(2, read_given(value))) end
  end
end
local value = m[2] > 0 and redis.call('HGET', base .. 'uk', ARGV[5])
return cmsgpack.pack(value and select(2, read_given(value)) or '')
