-- Takes lapsed batches over: each gets a new token and a new owner, and the old token is dead.
--
-- ARGV: 5 the node, 6 the lease in ms, 7 how many, 8 takes from which a batch is taken apart, 9 the
-- incarnation, 10 the first free number of a token and 11 what lies between two of them.
-- Answers [ms to the next lapse (-1: none), batches]: [token, node before, takes, released, open
-- numbers, held field, record, ...]; an open number is followed by its fan-out's cursor.
local before = answered()
if before then return before end
if not marks() then return EPOCH end
local free, step = tonumber(ARGV[10]), tonumber(ARGV[11])
local function new_token()
  local token = ARGV[9] .. '.' .. text(free)
  free = free + step
  return token
end
local expiry = text(now + ARGV[6])

-- What is still open of a batch: numbers of its range, and names of what it holds.
local function contents(b)
  local fields, done, held = {}, {}, {}
  local flat = redis.call('HGETALL', b)
  for i = 1, #flat, 2 do
    local name = flat[i]
    if string.find(name, '^%d+$') then
      done[name] = true
    elseif string.find(name, '^%d') then
      held[#held + 1] = name
      fields[name] = flat[i + 1]
    else
      fields[name] = flat[i + 1]
    end
  end
  table.sort(held)
  local open, first = {}, tonumber(fields.f)
  if first > 0 then
    for n = first, tonumber(fields.l) do
      if not done[text(n - first)] then open[#open + 1] = text(n) end
    end
  end
  return fields, open, held
end
local function cursor(n) return redis.call('HGET', base .. 'x:' .. n, '*') or '' end
local function tell(token, fields, takes, open, held)
  local numbers, names = {}, {}
  for _, n in ipairs(open) do
    numbers[#numbers + 1] = n
    numbers[#numbers + 1] = cursor(n)
  end
  for _, name in ipairs(held) do
    local n, field = string.match(name, '^(%d+)%.(.+)$')
    if field == '0' then
      numbers[#numbers + 1] = n
      numbers[#numbers + 1] = cursor(n)
    else
      names[#names + 1] = name
      names[#names + 1] = redis.call('HGET', base .. 'x:' .. n, field) or ''
    end
  end
  return { token, fields['@'], takes, fields.R == '1', numbers, names }
end

local taken, apart = {}, false
local lapsed = redis.call('ZRANGEBYSCORE', base .. 'lease', '-inf', text(now), 'LIMIT', 0, ARGV[7])
for _, old in ipairs(lapsed) do
  if apart then break end
  local b = base .. 'b:' .. old
  local fields, open, held = contents(b)
  redis.call('ZREM', base .. 'lease', old)
  if #open + #held == 0 then
    redis.call('DEL', b)
  else
    local takes = tonumber(fields.k) + (fields.R == '1' and 0 or 1)
    apart = takes >= tonumber(ARGV[8]) and #open + #held > 1
    if apart then
      redis.call('DEL', b)
      for _, n in ipairs(open) do
        local token = new_token()
        redis.call('HSET', base .. 'b:' .. token, '@', ARGV[5], 'k', takes, 'f', n, 'l', n,
          'o', fields.o, 'n', 1)
        redis.call('ZADD', base .. 'lease', expiry, token)
        taken[#taken + 1] = tell(token, fields, takes, { n }, {})
      end
      for _, name in ipairs(held) do
        local token = new_token()
        redis.call('HSET', base .. 'b:' .. token, '@', ARGV[5], 'k', takes, 'f', 0, 'l', 0,
          'o', fields.o, 'n', 1, name, fields[name])
        redis.call('ZADD', base .. 'lease', expiry, token)
        taken[#taken + 1] = tell(token, fields, takes, {}, { name })
      end
    else
      local token = new_token()
      local fresh = base .. 'b:' .. token
      redis.call('RENAME', b, fresh)
      redis.call('HSET', fresh, '@', ARGV[5], 'k', takes, 'n', #open + #held)
      redis.call('HDEL', fresh, 'R')
      redis.call('ZADD', base .. 'lease', expiry, token)
      taken[#taken + 1] = tell(token, fields, takes, open, held)
    end
  end
end
local next = redis.call('ZRANGE', base .. 'lease', 0, 0, 'WITHSCORES')[2]
local reply = { next and math.max(0, math.ceil(next - now)) or -1, taken }
if #taken == 0 then return cmsgpack.pack(reply) end
return answer(reply)
