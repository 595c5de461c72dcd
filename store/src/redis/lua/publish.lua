-- Accepts events: each gets the next number. ARGV: 5 how long an id is remembered, 6 how long a
-- window of ids is, 7 what was published without ids as [tenant, count, ...]; then for each event
-- its entry, and for one with an id its hash, bucket, digest, tenant, and the time before which the
-- id was another tenant's or 0 ('' five times for one without). Behind the bucket of one that is
-- scheduled stand a colon and its time.
local before = answered()
if before then return before end
local m = marks('last', 'lms', 'cur', 'uw', 'ux')
if not m then return EPOCH end
local last, ms, cur = m[1], now, m[3]
-- Accept times rise with numbers, unless the clock was set back far.
if m[2] > now and m[2] - now <= 60000 then ms = m[2] end

-- The length of a window is the first publisher's word: all must look into the same ones.
local keep, length = tonumber(ARGV[5]), m[4] > 0 and m[4] or tonumber(ARGV[6])
local window, bits, widened = math.floor(now / length), nil, false

-- Bits of a bucket's number in the current window and in the two before it. A window's are fixed
-- when it begins, so that its buckets stay small if it is like the last one.
local function read_bits()
  local w = window
  bits = redis.call('HMGET', KEYS[1], 'ub:' .. w, 'ub:' .. w - 1, 'ub:' .. w - 2, 'uc:' .. w - 1)
  if not bits[1] then
    local want, ids = 8, tonumber(bits[4] or '0')
    while want < 20 and ids > 128 * 2 ^ want do want = want + 1 end
    bits[1], widened = want, true
  end
end
local function bucket_of(i, number)
  return bucket_key(window - i + 1, number % 2 ^ bits[i])
end

-- Whether an event is not matched yet, or a delivery of it is pending.
local function busy(n)
  if n > cur then return true end
  for _, value in ipairs(redis.call('HVALS', base .. 'x:' .. text(n))) do
    local letter = parse(value)
    if not letter or letter == 'P' then return true end
  end
  return pending_in_runs(n) or holder(n) ~= nil
end

-- What a given id stands for already: its number and time, and whether the content is the same.
local function known(hash, number, digest, since)
  for i = 1, 4 do
    local value
    if i < 4 then
      value = bits[i] and redis.call('HGET', bucket_of(i, number), hash)
    elseif m[5] > 0 then
      value = redis.call('HGET', base .. 'uk', hash)
    end
    if value then
      local same, id = read_given(value)
      local n, at = parse_id(id)
      if tonumber(at) < since or now - at >= keep and not busy(tonumber(n)) then return nil end
      return id, same == digest
    end
  end
  return nil
end

local first, marked, given, total = last + 1, {}, 0, 0
local all_new, by_tenant = true, {}
for i = 8, #ARGV, 6 do
  local hash, id, same = ARGV[i + 1], nil, false
  local bucket, time = tonumber(ARGV[i + 2]), nil
  if hash ~= '' then
    if not bits then read_bits() end
    if not bucket then
      bucket, time = string.match(ARGV[i + 2], '^(%d+):(%-?%d+)$')
      -- A time that is over is none; it may lie before 1970.
      if tonumber(time) <= ms then time = nil end
    end
    id, same = known(hash, tonumber(bucket), ARGV[i + 3], tonumber(ARGV[i + 5]))
  end
  if id then
    all_new = false
    marked[#marked + 1] = same and id or ''
  else
    last = last + 1
    local stream_id = id_of(text(last), text(ms))
    redis.call('XADD', base .. 'ev', stream_id, 'e', ARGV[i])
    marked[#marked + 1] = text(last)
    total = total + 1
    if hash ~= '' then
      local given_id = given_text(ARGV[i + 3], stream_id)
      redis.call('HSET', bucket_of(1, tonumber(bucket)), hash, given_id)
      -- Its window may be over before its time has come.
      if time then
        redis.call('HSET', base .. 'uk', hash, given_id)
        redis.call('ZADD', base .. 'ut', time, hash)
        redis.call('HSET', KEYS[1], 'ux', '1')
        m[5] = 1
      elseif m[5] > 0 and redis.call('HDEL', base .. 'uk', hash) == 1 then
        -- It named an earlier event of the id.
        redis.call('ZREM', base .. 'ut', hash)
      end
      given = given + 1
      local tenant = ARGV[i + 4]
      by_tenant[tenant] = (by_tenant[tenant] or 0) + 1
    end
  end
end
if total > 0 then
  redis.call('HSET', KEYS[1], 'last', text(last), 'lms', text(ms))
  redis.call('HINCRBY', books_key(''), 'a', total)
  local without = cmsgpack.unpack(ARGV[7])
  for i = 1, #without, 2 do
    by_tenant[without[i]] = (by_tenant[without[i]] or 0) + without[i + 1]
  end
  for tenant, events in pairs(by_tenant) do
    redis.call('HINCRBY', books_key(tenant), 'a', events)
  end
  if given > 0 then
    if widened then redis.call('HSET', KEYS[1], 'ub:' .. window, bits[1], 'uw', text(length)) end
    if m[4] == 0 then redis.call('HSET', KEYS[1], 'uo', text(window)) end
    redis.call('HINCRBY', KEYS[1], 'uc:' .. window, given)
  end
  ring()
end
if all_new then marked = {} end
return answer({ text(ms), text(first), marked })
