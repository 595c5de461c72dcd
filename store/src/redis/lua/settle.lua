-- Records results: states, log and counters in one step.
--
-- ARGV: 5 [lane, ms, why, ...] to close; 6 how many batches; for each its head and its items;
-- then for each chunk its stream (l or e), its highest number, its runs and its data.
-- A head is [token, events, simple, unmatched, errors]: how many different events of its range
-- settle, whether each of them went nowhere or to nothing but successes that the log tells of, as
-- [tenant, what, by, ...] if so, the numbers that nobody wanted, and filters that had no answer, as
-- [reason, [lane, events, ...]]. Items say the same one by one and are only read where that is not
-- all there is to it: events, deliveries, and errors by the place of their event as
-- [place, [[reason, [lane, ...]], ...]].
-- Whether a batch exists is the fence. What of it was settled before is passed over.
local before = answered()
if before then return before end
local m = marks('lk', 'ek', 'dk')
if not m then return EPOCH end

local kills = redis.call('EXISTS', base .. 'kill') == 1
local batches, lost = {}, {}
local function batch_of(token)
  local b = batches[token]
  if b == nil then
    local found = redis.call('HMGET', base .. 'b:' .. token, 'n', 'f', 'l', 'o')
    b = found[1] and { key = base .. 'b:' .. token, open = tonumber(found[1]),
      first = tonumber(found[2]), last = tonumber(found[3]), origin = tonumber(found[4]) }
    batches[token] = b
  end
  return b
end

-- Drops the mark of a cancelled delivery; says why it was cancelled, if it was.
local function unmark(n, field)
  if not kills then return nil end
  local name = n .. '.' .. field
  local mark = redis.call('HGET', base .. 'kill', name)
  if not mark then return nil end
  redis.call('HDEL', base .. 'kill', name)
  return string.match(mark, '^%d+')
end
-- Drops the marks of an event that was matched, but for deliveries that are still attempted.
local function unmark_event(b, n)
  if not kills then return end
  for _, name in ipairs(redis.call('HKEYS', base .. 'kill')) do
    if string.sub(name, 1, #n + 1) == n .. '.' then
      local field = string.sub(name, #n + 2)
      local value = redis.call('HGET', base .. 'x:' .. n, field)
      if not value or string.sub(value, 1, 1) ~= 'P'
        or redis.call('ZSCORE', base .. 'lane:' .. lane_of(field), member(n, field)) then
        redis.call('HDEL', base .. 'kill', name)
      end
    end
  end
end

-- Where a delivery really goes. A wish is [field, letter, attempts, by, told, n, wait, age]:
-- R, W and D go back into the lane (by: ms from now for R, else what it waits for; wait: ms from now
-- for D), H stays in the batch, S, F and C end (by: why). Age: for how many ms it has existed.
local function bend(n, wish)
  local letter, by = wish[2], wish[4]
  if letter == 'H' then return letter, by end
  local mark = unmark(n, wish[1])
  if mark and letter ~= 'S' then return 'C', mark end
  return letter, by
end

-- Writes where a delivery went; its record exists or is about to.
local function put(b, n, wish, tenant, letter, by, create)
  local field, attempts = wish[1], wish[3]
  if letter == 'H' then
    redis.call('HSET', base .. 'x:' .. n, field, record('P', attempts, create, now, IN_FLIGHT))
    redis.call('HSET', b.key, n .. '.' .. field, tenant)
    redis.call('HSETNX', base .. 'own', lane_of(field), tenant)
  elseif letter == 'R' or letter == 'W' or letter == 'D' then
    local due = letter == 'R' and now + by or letter == 'D' and now + wish[7] or now
    local code = letter == 'R' and RETRY_SCHEDULED or by
    redis.call('HSET', base .. 'x:' .. n, field, record('P', attempts, create, due, code))
    arrive(field, n, due, tenant)
  else
    finish(n, field, tenant, letter, attempts, create, by)
    if letter ~= wish[2] then tell(n, field, tenant, letter, attempts, create, by) end
  end
end

-- A delivery that a match made.
local function create(b, n, wish, tenant)
  local letter, by = bend(n, wish)
  if letter == 'S' and wish[5] then
    count(tenant, 'c', 1)
    count(tenant, 's', 1)
    return
  end
  if redis.call('HEXISTS', base .. 'x:' .. n, wish[1]) == 1 then return end -- an earlier step's
  count(tenant, 'c', 1)
  pend(n, 1)
  if letter == 'H' then b.open = b.open + 1 end
  put(b, n, wish, tenant, letter, by, now - wish[8])
end

-- A delivery that the batch holds.
local function advance(b, n, wish)
  local name = n .. '.' .. wish[1]
  local tenant = redis.call('HGET', b.key, name)
  if not tenant then return end -- it moved before
  local value = redis.call('HGET', base .. 'x:' .. n, wish[1])
  local created = value and select(3, parse(value)) or now
  local letter, by = bend(n, wish)
  if letter ~= 'H' then
    redis.call('HDEL', b.key, name)
    b.open = b.open - 1
  end
  put(b, n, wish, tenant, letter, by, created)
end

local function nobody(n, tenant)
  redis.call('SETBIT', base .. 'un:' .. math.floor(n / 65536), n % 65536, 1)
  count(tenant, 'u', 1)
end

-- Settles an event [n, tenant, kind, ...]; says whether it is done with.
local kinds = {
  u = function(b, n, e) nobody(n, e[2]) end,
  -- One that cannot be decoded: whose it is its entry knows.
  a = function(b, n, e)
    local entry = entry_of(n)
    nobody(n, entry and tenant_of(entry) or e[2])
  end,
  s = function(b, n, e)
    count(e[2], 'm', 1)
    count(e[2], 'c', e[4])
    count(e[2], 's', e[4])
  end,
  m = function(b, n, e)
    for _, wish in ipairs(e[4]) do create(b, n, wish, e[2]) end
    count(e[2], 'm', 1)
  end,
  -- A step of a large fan-out: [n, tenant, f, deliveries, cursor, done].
  f = function(b, n, e)
    local x = base .. 'x:' .. n
    local cursor = redis.call('HGET', x, '*')
    for _, wish in ipairs(e[4]) do
      if not cursor or tonumber(lane_of(wish[1])) > tonumber(cursor) then
        create(b, n, wish, e[2])
      end
    end
    if not e[6] then
      if not cursor or e[5] > tonumber(cursor) then redis.call('HSET', x, '*', text(e[5])) end
      return true
    end
    redis.call('HDEL', x, '*')
    if not cursor and #e[4] == 0 then nobody(n, e[2]) else count(e[2], 'm', 1) end
  end,
  -- Put off: [n, tenant, p, ms].
  p = function(b, n, e)
    redis.call('HSET', base .. 'x:' .. n, '0', record('P', 0, now, now + e[4], AWAITING_REVISION))
    arrive('0', n, now + e[4], e[2])
    return false, true
  end,
}

-- Events that filters had no answer for, gathered over the call, by lane.
local unanswered = {}
local function unanswer(lane, by, reason)
  local name = text(lane)
  local known = unanswered[name]
  unanswered[name] = { (known and known[1] or 0) + by, reason }
end
local function write_unanswered()
  local lanes, STRIDE = {}, 500
  for lane in pairs(unanswered) do lanes[#lanes + 1] = lane end
  for from = 1, #lanes, STRIDE do
    local to, flat = math.min(from + STRIDE - 1, #lanes), {}
    local found = redis.call('HMGET', base .. 'fe', unpack(lanes, from, to))
    for i = from, to do
      local more = unanswered[lanes[i]]
      local count = tonumber(string.match(found[i - from + 1] or '', '^%d+') or '0') + more[1]
      flat[#flat + 1] = lanes[i]
      flat[#flat + 1] = text(count) .. ' ' .. text(now) .. ' ' .. more[2]
    end
    redis.call('HSET', base .. 'fe', unpack(flat))
  end
end

local function settle_events(b, events, errors)
  local why = {}
  for _, error in ipairs(errors) do why[error[1]] = error[2] end
  local offsets, done, ranged = {}, {}, {}
  for i, e in ipairs(events) do
    if b.first > 0 and b.first <= e[1] and e[1] <= b.last then
      offsets[#offsets + 1] = text(e[1] - b.first)
      ranged[#offsets] = i
    end
  end
  if #offsets > 0 then
    local found = redis.call('HMGET', b.key, unpack(offsets))
    for j, i in ipairs(ranged) do done[i] = found[j] or false end
  end
  local now_done = {}
  for i, e in ipairs(events) do
    local n, place = text(e[1]), done[i]
    local from_lane = place == nil
    local free = place == false
    if from_lane then free = redis.call('HEXISTS', b.key, n .. '.0') == 1 end
    if free then
      local stays, postponed = kinds[e[3]](b, n, e)
      if not stays then
        if not postponed then
          unmark_event(b, n)
          for _, group in ipairs(why[i] or {}) do
            for _, lane in ipairs(group[2]) do unanswer(lane, 1, group[1]) end
          end
        end
        if from_lane then
          redis.call('HDEL', b.key, n .. '.0')
          if not postponed then redis.call('HDEL', base .. 'x:' .. n, '0') end
        else
          local offset = text(e[1] - b.first)
          now_done[#now_done + 1] = offset
          now_done[#now_done + 1] = '1'
          for j = i + 1, #events do if events[j][1] == e[1] then done[j] = '1' end end
        end
        b.open = b.open - 1
      end
    end
  end
  if #now_done > 0 and b.open > 0 then redis.call('HSET', b.key, unpack(now_done)) end
end

local at, order = 7, {}
for _ = 1, tonumber(ARGV[6]) do
  local head, items = cmsgpack.unpack(ARGV[at]), ARGV[at + 1]
  at = at + 2
  local b = batch_of(head[1])
  if not b then
    lost[#lost + 1] = head[1]
  elseif b.open <= 0 then
    -- An earlier entry of this call settled all of it.
  elseif head[3] and not kills and b.first > 0 and head[2] == b.open
    and b.open == b.last - b.first + 1 then
    for i = 1, #head[3], 3 do count(head[3][i], head[3][i + 1], head[3][i + 2]) end
    for _, n in ipairs(head[4]) do
      redis.call('SETBIT', base .. 'un:' .. math.floor(n / 65536), n % 65536, 1)
    end
    for _, group in ipairs(head[5]) do
      for i = 1, #group[2], 2 do unanswer(group[2][i], group[2][i + 1], group[1]) end
    end
    b.open = 0
  else
    local parts = cmsgpack.unpack(items)
    settle_events(b, parts[1], parts[3])
    for _, wish in ipairs(parts[2]) do advance(b, text(wish[6]), wish) end
  end
  if b then order[head[1]] = b end
end

-- The log. Runs are [token, records, numbers]; a run of a range is found by the range's first
-- number, any other by each event's own.
local known = { l = m[1], e = m[2] }
local streams = { l = 'log', e = 'elog' }
while at <= #ARGV do
  local kind, highest, runs = ARGV[at], ARGV[at + 1], cmsgpack.unpack(ARGV[at + 2])
  local k = known[kind] + 1
  known[kind] = k
  local name, firsts, told, numbers, trail, late, records = kind .. text(k), {}, {}, {}, {}, {}, 0
  for _, run in ipairs(runs) do
    local b = batch_of(run[1])
    if b and b.origin > 0 then
      if not told[b.origin] then
        told[b.origin] = true
        firsts[#firsts + 1] = text(b.origin)
        firsts[#firsts + 1] = name .. '.' .. #firsts
      end
    else
      if not b then
        late[#late + 1] = records
        late[#late + 1] = run[2]
      end
      for _, n in ipairs(run[3]) do
        if not numbers[n] then
          numbers[n] = true
          trail[#trail + 1] = text(n)
          trail[#trail + 1] = name .. '.' .. text(n)
        end
      end
    end
    records = records + run[2]
  end
  local fields = { 'c', ARGV[at + 3], 'm', highest, 'r', cmsgpack.pack({ #firsts / 2, trail }) }
  if #late > 0 then
    fields[7], fields[8] = 'l', cmsgpack.pack(late)
  end
  redis.call('XADD', base .. streams[kind], text(k) .. '-' .. text(now), unpack(fields))
  if #firsts > 0 then redis.call('ZADD', base .. 'map', unpack(firsts)) end
  if #trail > 0 then redis.call('ZADD', base .. 'trail', unpack(trail)) end
  at = at + 4
end
redis.call('HSET', KEYS[1], 'lk', text(known.l), 'ek', text(known.e))
write_ends(m[3])

for token, b in pairs(order) do
  if b.open <= 0 then
    redis.call('DEL', b.key)
    redis.call('ZREM', base .. 'lease', token)
  else
    redis.call('HSET', b.key, 'n', text(b.open))
  end
end
write_counts()
write_unanswered()
write_lanes()
local close = cmsgpack.unpack(ARGV[5])
for i = 1, #close, 3 do close_lane(text(close[i]), now + close[i + 1], close[i + 2]) end
return answer(lost)
