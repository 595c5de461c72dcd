-- The books of one moment. ARGV: 5 the tenant, or '' for all; 6 lanes to count at most; 7 events
-- to look at at most.
-- Answers [counters, waiting, pending]: counters as [a, m, u, c, s, f, x, z, h];
-- waiting is -1 where the
-- events of a tenant are too many to look at; pending is -1 where the lanes are.
local m = marks('cur', 'last')
if not m then return EPOCH end
local tenant, most, look = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local counters = read_books(tenant)

local waiting, pending, looked = 0, 0, 0
-- Events of the tenant among some numbers.
local function of_tenant(numbers)
  local found = 0
  for _, n in ipairs(numbers) do
    local entry = entry_of(text(n))
    if entry and tenant_of(entry) == tenant then found = found + 1 end
  end
  looked = looked + #numbers
  return found
end
local function add(numbers)
  if tenant == '' then
    waiting = waiting + #numbers
  elseif waiting >= 0 then
    if looked + #numbers > look then waiting = -1 else waiting = waiting + of_tenant(numbers) end
  end
end
local function range(first, last, spare)
  if tenant == '' then
    if not spare then
      waiting = waiting + math.max(0, last - first + 1)
      return
    end
  elseif last - first + 1 + looked > look then
    waiting = -1
    return
  end
  local numbers = {}
  for n = first, last do
    if not spare or not spare[text(n - first)] then numbers[#numbers + 1] = n end
  end
  add(numbers)
end
range(m[1] + 1, m[2])
for _, token in ipairs(redis.call('ZRANGE', base .. 'lease', 0, -1)) do
  local fields, done, held, pieces = read_batch(base .. 'b:' .. token)
  local put_off = {}
  for name, owner in pairs(held) do
    local n, field = parse_name(name)
    if field == '0' then
      put_off[#put_off + 1] = tonumber(n)
    elseif tenant == '' or owner == tenant then
      pending = pending + 1
    end
  end
  for _, piece in pairs(pieces) do
    if tenant == '' or redis.call('HGET', base .. 'own', piece.lane) == tenant then
      pending = pending + ones(piece)
    end
  end
  if tonumber(fields.f or '0') > 0 then range(tonumber(fields.f), tonumber(fields.l), done) end
  add(put_off)
end
if redis.call('ZCARD', base .. 'lanes') > most then
  pending = -1
else
  for _, lane in ipairs(redis.call('ZRANGE', base .. 'lanes', 0, -1)) do
    if lane ~= '0' and (tenant == '' or redis.call('HGET', base .. 'own', lane) == tenant) then
      pending = pending + redis.call('ZCARD', base .. 'lane:' .. lane)
        + (redis.call('HGET', base .. 'rw', lane) or 0)
    end
  end
end
if tenant == '' then
  waiting = waiting + redis.call('ZCARD', base .. 'lane:0')
else
  local numbers = {}
  -- Each is an entry of up to 1 MiB, which is read as a whole.
  if redis.call('ZCARD', base .. 'lane:0') > math.min(look, 100) then
    waiting = -1
  else
    for _, name in ipairs(redis.call('ZRANGE', base .. 'lane:0', 0, -1)) do
      numbers[#numbers + 1] = tonumber(name)
    end
    if waiting >= 0 then add(numbers) end
  end
end
return cmsgpack.pack({ counters, waiting, pending })
