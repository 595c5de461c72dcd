-- Erases events of a tenant. ARGV: 5 the tenant, 6 only those accepted before this (ms), 7 events
-- above this number, in their stream; or 8 these numbers, if there are any; 9 how many at most, and
-- 10 how many bytes of them, to look at.
-- Answers [how many were erased, how many have something to be done yet, the last number looked at,
-- whether that was the last of all].
local m = marks('cur')
if not m then return EPOCH end
local tenant, before, from = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local numbers, most, room = cmsgpack.unpack(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
-- What is below all leases' ranges is matched, or put off.
local bound = m[1]
for _, token in ipairs(redis.call('ZRANGE', base .. 'lease', 0, -1)) do
  local first = tonumber(redis.call('HGET', base .. 'b:' .. token, 'f') or '0')
  if first > 0 then bound = math.min(bound, first - 1) end
end

local erased, left = 0, 0
-- What runs say of events, by their first number: those of which something is pending, and those
-- that go, where some of them ended together.
local kept, going = {}, {}
local function pending_by_runs(n)
  local from = from_of(n)
  if not kept[from] then
    local some
    kept[from], some = kept_by_runs(from, math.huge)
    going[from] = some and no_bits() or nil
  end
  return has(kept[from], n)
end
local function forget_going()
  for from, events in pairs(going) do
    if not empty(events) then forget_ended(from, events) end
  end
end
-- An event with its entry, its number and its time.
local function look(entry, n, ms)
  if tonumber(ms) >= before or tenant_of(entry) ~= tenant then return end
  local x = base .. 'x:' .. n
  local flat = redis.call('HGETALL', x)
  local open = tonumber(n) > bound or pending_by_runs(tonumber(n))
  for i = 1, #flat, 2 do
    local letter = parse(flat[i + 1])
    local waits = not letter or letter == 'P'
    if waits and not (flat[i] == '0' and call_off(n, tenant, flat[i + 1], TENANT_DELETED)) then
      open = true
    end
  end
  if open then
    left = left + 1
    return
  end
  for i = 1, #flat, 2 do
    if letter_of(flat[i + 1]) == 'F' then
      redis.call('ZREM', base .. 'fail:' .. lane_of(flat[i]), member(n, flat[i]))
    end
  end
  local events = going[from_of(tonumber(n))]
  if events then insert(events, n) end
  redis.call('DEL', x, base .. 'body:' .. n)
  redis.call('ZREM', base .. 'old', n)
  redis.call('ZREM', base .. 'tomb', id_of(n, ms))
  redis.call('XDEL', base .. 'ev', id_of(n, ms))
  local page = unmatched_key(n)
  if redis.call('EXISTS', page) == 1 then redis.call('SETBIT', page, n % 65536, 0) end
  erased = erased + 1
end

for _, number in ipairs(numbers) do
  local n = text(number)
  local entry, id = entry_of(n)
  if entry then look(entry, n, select(2, parse_id(id))) end
end
if #numbers > 0 then
  forget_going()
  write_counts()
  return cmsgpack.pack({ erased, left, text(from), true })
end

local at, seen, bytes, last = from, 0, 0, false
-- Few at a time: one may be large.
while seen < most and bytes < room and not last do
  local rows = redis.call('XRANGE', base .. 'ev', text(at + 1), '+', 'COUNT', 10)
  last = #rows < 10
  for _, row in ipairs(rows) do
    local n, ms = parse_id(row[1])
    at, seen, bytes = tonumber(n), seen + 1, bytes + #row[2][2]
    if tonumber(ms) >= before then last = true end
    look(row[2][2], n, ms)
  end
end
forget_going()
write_counts()
return cmsgpack.pack({ erased, left, text(at), last })
