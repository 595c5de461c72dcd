-- Records results: states, log and counters in one step.
--
-- ARGV: 5 [lane, ms, why, ...] to close; 6 how many batches; for each its head, its simple events
-- and the rest; then for each chunk its stream (l or e), its highest number, its runs and its data.
-- An event is simple if it went nowhere, or to nothing but successes that the log tells of and
-- deliveries that wait without an attempt. A head says what simple events come to: [token, how many
-- there are, [tenant, what, by, ...], the numbers that nobody wanted, filters without an answer as
-- [reason, [lane, events, ...]], what waits, the numbers as [first, last, ...]]. What waits is told
-- by lane and run: [lane, first, why, tenant, least and greatest age, least and greatest accept
-- time, how many, eight words of bits, ...]. Simple events are told one by one, too, and are read
-- only where that is not all there is to it. The rest is [events, deliveries, errors, sets]: events
-- and deliveries one by one; errors of filters by the place of their event, as [place, [[reason,
-- [lane, ...]], ...]], as behind simple events; and sets of deliveries that the batch holds and
-- that go one way: [G or W, lane, first, why, eight words, ...].
-- Whether a batch exists is the fence. What of it was settled before is passed over.
local before = answered()
if before then return before end
local m = marks('lk', 'ek', 'dk', 'trim')
if not m then return EPOCH end
local in_runs, trim = string.sub(ARGV[2], -1) == KNOWS_RUNS, m[4]

local kills = redis.call('EXISTS', base .. 'kill') == 1
local batches, lost = {}, {}
local function batch_of(token)
  local b = batches[token]
  if b == nil then
    local found = redis.call('HMGET', base .. 'b:' .. token, 'n', 'f', 'l', 'o', 'c', 'p')
    b = found[1] and { key = base .. 'b:' .. token, open = tonumber(found[1]),
      first = tonumber(found[2]), last = tonumber(found[3]), origin = tonumber(found[4]),
      partly = found[5], has_pieces = found[6], done = {}, pieces = {} }
    batches[token] = b
  end
  return b
end

-- Drops the mark of a cancelled delivery; says why it was cancelled, if it was.
local function unmark(n, field)
  if not kills then return nil end
  local name = name_of(n, field)
  local mark = redis.call('HGET', base .. 'kill', name)
  if not mark then return nil end
  redis.call('HDEL', base .. 'kill', name)
  return (read_mark(mark))
end
-- Drops the marks of an event that was matched, but for deliveries that are still attempted.
local function unmark_event(b, n)
  if not kills then return end
  for _, name in ipairs(redis.call('HKEYS', base .. 'kill')) do
    local of, field = parse_name(name)
    if of == n then
      local value = redis.call('HGET', base .. 'x:' .. n, field)
      local flying
      if value then
        flying = letter_of(value) == 'P'
          and not redis.call('ZSCORE', base .. 'lane:' .. lane_of(field), member(n, field))
      else
        flying = tag_of(field) == '' and has(held_of(from_of(tonumber(n)), field), n)
      end
      if not flying then redis.call('HDEL', base .. 'kill', name) end
    end
  end
end

-- Where a delivery goes, as it was decided: [field, letter, attempts, due, code, n, age, accept time].
-- G: nothing is kept but what the log tells. W: a bit of a run. L: a record in its lane. H: a record
-- in the batch. S, F, C: the record of an end. Due: in ms from now. Code: what it waits for, or why it
-- ended. Age: for how many ms it has existed.
-- A mark turns everything but a success into a cancel.
local function decide(n, move)
  local letter, code = move[2], move[5]
  if letter == 'H' then return letter, code end
  local mark = unmark(n, move[1])
  if mark and letter ~= 'S' and letter ~= 'G' then return 'C', mark end
  return letter, code
end

-- Writes where a delivery went; its record exists or is about to.
local function put(b, n, move, tenant, letter, code, create)
  local field, attempts = move[1], move[3]
  if letter == 'H' then
    redis.call('HSET', base .. 'x:' .. n, field, record('P', attempts, create, now, code))
    redis.call('HSET', b.key, name_of(n, field), tenant)
    redis.call('HSETNX', base .. 'own', lane_of(field), tenant)
  elseif letter == 'W' or letter == 'L' then
    local due = now + move[4]
    redis.call('HSET', base .. 'x:' .. n, field, record('P', attempts, create, due, code))
    arrive(field, n, due, tenant)
  else
    finish(n, field, tenant, letter == 'G' and 'S' or letter, attempts, create, code)
    if letter ~= move[2] then tell(n, field, tenant, letter, attempts, create, code) end
  end
end

local function owner_of(lane)
  if not owner[lane] then owner[lane] = redis.call('HGET', base .. 'own', lane) or '' end
  return owner[lane]
end
-- Whether a delivery of an event accepted at a moment is of a run by when it was made.
local function fits(run, created, ms)
  return math.abs(created - math.max(run and run.began or created, ms)) <= SLACK
end

-- A delivery that a match made. Of an event that was fanned out in part, or put off, there may be
-- records.
local function create(b, n, move, tenant, recorded)
  local letter, code = decide(n, move)
  if letter == 'G' then
    count(tenant, 'c', 1)
    count(tenant, 's', 1)
    return
  end
  local lane, created, number = move[1], now - move[7], tonumber(n)
  local from = from_of(number)
  local run = (recorded or letter == 'W') and wait_of(from, lane)
  if run and has(run, number)
    or recorded and redis.call('HEXISTS', base .. 'x:' .. n, lane) == 1 then
    return -- an earlier step's
  end
  count(tenant, 'c', 1)
  pend(n, 1)
  if letter == 'W' and in_runs and fits(run, created, move[8]) then
    insert(run_for(from, lane, created, code, 1), number)
    arrive_run(lane, tenant)
    return
  end
  if letter == 'H' then b.open = b.open + 1 end
  put(b, n, move, tenant, letter, code, created)
end

-- The piece of a run that the batch holds; nothing, if it holds none.
local function piece_of(b, from, lane)
  if not b.has_pieces then return nil end
  local name = piece_name(from, lane)
  local piece = b.pieces[name]
  if piece == nil then
    local value = redis.call('HGET', b.key, name)
    piece = value and read_piece(value) or false
    b.pieces[name] = piece
  end
  return piece
end
-- Deliveries leave a piece.
local function leave(b, piece, from, lane, w, many)
  remove_all(piece, w)
  remove_all(held_of(from, lane), w)
  piece.dirty = true
  b.open = b.open - many
end
-- Whether deliveries of a piece can go back: into a run that began when theirs did, or anew.
local function goes_back(piece, from, lane)
  local run = wait_of(from, lane)
  return not run or run.began == piece.began
end
local function put_back(piece, from, lane, why, w, many)
  add_all(run_for(from, lane, piece.began, why, many), w)
  arrive_run(lane, owner_of(lane))
end

-- A delivery that the batch holds.
local function advance(b, n, move)
  local field, number = move[1], tonumber(n)
  local from = from_of(number)
  local piece = tag_of(field) == '' and piece_of(b, from, field)
  if piece and has(piece, number) then
    if move[2] == 'H' and move[3] == 0 then return end -- it stays
    local letter, code = decide(n, move)
    local w = no_bits()
    insert(w, number)
    leave(b, piece, from, field, w, letter == 'H' and 0 or 1)
    if letter == 'G' then
      count(owner_of(field), 's', 1)
      pend(n, -1)
      look_anew(from, w, trim)
    elseif letter == 'W' and goes_back(piece, from, field) then
      put_back(piece, from, field, code, w, 1)
    else
      local created = move[8] > 0 and math.max(piece.began, move[8]) or created_of(n, piece.began)
      put(b, n, move, owner_of(field), letter, code, created)
    end
    return
  end
  local name = name_of(n, field)
  local tenant = redis.call('HGET', b.key, name)
  if not tenant then return end -- it moved before
  local value = redis.call('HGET', base .. 'x:' .. n, field)
  local created = value and select(3, parse(value)) or now
  local letter, code = decide(n, move)
  if letter ~= 'H' then
    redis.call('HDEL', b.key, name)
    b.open = b.open - 1
  end
  put(b, n, move, tenant, letter, code, created)
end

-- Deliveries of a lane and run that the batch holds, and that all go one way: G, told by the log at
-- their first attempt, or W, back without one. Those that are not in a piece have records.
local function advance_set(b, letter, lane, from, why, w)
  local piece = not kills and piece_of(b, from, lane)
  if piece and (letter == 'G' or goes_back(piece, from, lane)) then
    local own = both(piece, w)
    local many = ones(own)
    if many > 0 then
      leave(b, piece, from, lane, own, many)
      if letter == 'G' then
        count(owner_of(lane), 's', many)
        pend(from, -many)
        look_anew(from, own, trim)
      else
        put_back(piece, from, lane, why, own, many)
      end
      w = without(w, own)
    end
  end
  if empty(w) then return end
  for _, n in ipairs(numbers_of(w, from)) do
    advance(b, text(n), { lane, letter, letter == 'G' and 1 or 0, 0, why, n, 0, 0 })
  end
end

local function nobody(n, tenant)
  -- Pages below the mark are gone for good.
  if tonumber(n) > trim then redis.call('SETBIT', unmatched_key(n), n % 65536, 1) end
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
  -- To successes alone, by their lanes.
  s = function(b, n, e)
    local x, many = base .. 'x:' .. n, #e[4]
    local cursor = (b.partly or b.first == 0) and redis.call('HGET', x, '*')
    if cursor then
      for _, lane in ipairs(e[4]) do
        if lane <= tonumber(cursor) then many = many - 1 end
      end
      redis.call('HDEL', x, '*')
    end
    count(e[2], 'm', 1)
    count(e[2], 'c', many)
    count(e[2], 's', many)
  end,
  m = function(b, n, e)
    local x = base .. 'x:' .. n
    local recorded = redis.call('EXISTS', x) == 1
    local cursor = recorded and redis.call('HGET', x, '*')
    for _, move in ipairs(e[4]) do
      if not cursor or tonumber(lane_of(move[1])) > tonumber(cursor) then
        create(b, n, move, e[2], recorded)
      end
    end
    if cursor then redis.call('HDEL', x, '*') end
    count(e[2], 'm', 1)
  end,
  -- A step of a large fan-out: [n, tenant, f, deliveries, cursor, done].
  f = function(b, n, e)
    local x, lanes = base .. 'x:' .. n, {}
    local recorded = redis.call('EXISTS', x) == 1
    local cursor = recorded and redis.call('HGET', x, '*')
    for _, move in ipairs(e[4]) do lanes[#lanes + 1] = move[1] end
    if #lanes > 0 then read_waits(from_of(e[1]), lanes) end
    for _, move in ipairs(e[4]) do
      if not cursor or tonumber(lane_of(move[1])) > tonumber(cursor) then
        create(b, n, move, e[2], recorded)
      end
    end
    if not e[6] then
      if not b.partly then
        redis.call('HSET', b.key, 'c', '1')
        b.partly = '1'
      end
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
  -- Not before its time: [n, tenant, d, moment].
  d = function(b, n, e)
    local due = math.max(e[4], now)
    redis.call('HSET', base .. 'x:' .. n, '0', record('P', 0, now, due, SCHEDULED))
    arrive('0', n, due, e[2])
    count(e[2], 'h', 1)
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
      local known = found[i - from + 1]
      local events = (known and read_errors(known) or 0) + more[1]
      flat[#flat + 1] = lanes[i]
      flat[#flat + 1] = errors_text(events, now, more[2])
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
  for i, e in ipairs(events) do
    local n, place, offset = text(e[1]), done[i], text(e[1] - b.first)
    local from_lane = place == nil
    local free = place == false and not b.done[offset]
    if from_lane then free = redis.call('HEXISTS', b.key, name_of(n, '0')) == 1 end
    if free then
      local value = from_lane and redis.call('HGET', base .. 'x:' .. n, '0')
      local stays, postponed = kinds[e[3]](b, n, e)
      if not stays then
        if value and is_scheduled(value) then
          local entry = e[3] == 'a' and entry_of(n)
          count(entry and tenant_of(entry) or e[2], 'h', -1)
        end
        if not postponed then
          unmark_event(b, n)
          for _, group in ipairs(why[i] or {}) do
            for _, lane in ipairs(group[2]) do unanswer(lane, 1, group[1]) end
          end
        end
        if from_lane then
          redis.call('HDEL', b.key, name_of(n, '0'))
          if not postponed then redis.call('HDEL', base .. 'x:' .. n, '0') end
        else
          b.done[offset] = true
        end
        b.open = b.open - 1
      end
    end
  end
end

-- Settles simple events by what they come to; false: they have to be looked at one by one.
local function settle_simple(b, head)
  if kills or b.first <= 0 then return false end
  local numbers, runs, offsets = head[7], head[6], {}
  if b.partly or numbers[1] < b.first or numbers[#numbers] > b.last then return false end
  -- Nothing of a batch was settled that has no fields but those which it was made with.
  local fresh = not next(b.done) and redis.call('HLEN', b.key) == 6
  if not fresh or head[2] < b.open then
    for i = 1, #numbers, 2 do
      for n = numbers[i], numbers[i + 1] do
        local offset = text(n - b.first)
        if b.done[offset] then return false end
        offsets[#offsets + 1] = offset
      end
    end
    if not fresh then
      for _, found in ipairs(redis.call('HMGET', b.key, unpack(offsets))) do
        if found then return false end
      end
    end
  end
  local groups = {}
  for i = 1, #runs, 17 do
    if not in_runs then return false end
    local lane, from = text(runs[i]), runs[i + 1]
    local run = wait_of(from, lane)
    local first, last = now - runs[i + 5], now - runs[i + 4]
    local began = run and run.began or first
    if last - math.max(began, runs[i + 6]) > SLACK
      or math.max(began, runs[i + 7]) - first > SLACK then
      return false
    end
    local w = { unpack(runs, i + 9, i + 16) }
    local many = runs[i + 8]
    if run then
      local new = without(w, run)
      local fewer = ones(new)
      if fewer < many then w, many = new, fewer end
    end
    groups[#groups + 1] = { lane, from, runs[i + 2], runs[i + 3], began, many, w }
  end
  for _, group in ipairs(groups) do
    local lane, from, why, tenant, began, many, w = unpack(group)
    if many > 0 then
      add_all(run_for(from, lane, began, why, many), w)
      arrive_run(lane, tenant)
      count(tenant, 'c', many)
      pend(from, many)
    end
  end
  for i = 1, #head[3], 3 do count(head[3][i], head[3][i + 1], head[3][i + 2]) end
  for _, n in ipairs(head[4]) do
    redis.call('SETBIT', unmatched_key(n), n % 65536, 1)
  end
  for _, group in ipairs(head[5]) do
    for i = 1, #group[2], 2 do unanswer(group[2][i], group[2][i + 1], group[1]) end
  end
  for _, offset in ipairs(offsets) do b.done[offset] = true end
  b.open = b.open - head[2]
  return true
end

local at, order = 7, {}
for _ = 1, tonumber(ARGV[6]) do
  local head, simple, rest = cmsgpack.unpack(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local b = batch_of(head[1])
  if not b then
    lost[#lost + 1] = head[1]
  elseif b.open > 0 then -- else an earlier entry of this call settled all of it
    if head[2] > 0 and not settle_simple(b, head) then
      local parts = cmsgpack.unpack(simple)
      settle_events(b, parts[1], parts[2])
    end
    if rest ~= '' then
      local parts = cmsgpack.unpack(rest)
      settle_events(b, parts[1], parts[3])
      for _, move in ipairs(parts[2]) do advance(b, text(move[6]), move) end
      local sets = parts[4]
      for i = 1, #sets, 12 do
        advance_set(b, sets[i], text(sets[i + 1]), sets[i + 2], sets[i + 3],
          { unpack(sets, i + 4, i + 11) })
      end
    end
  end
  if b then order[head[1]] = b end
end

-- The log. Runs are [token, records, numbers]; a run of a range is found by the range's first
-- number, any other by each event's own.
local known = { l = m[1], e = m[2] }
while at <= #ARGV do
  local kind, highest, runs = ARGV[at], ARGV[at + 1], cmsgpack.unpack(ARGV[at + 2])
  local k = known[kind] + 1
  known[kind] = k
  local name, records = chunk_name(kind, k), 0
  local firsts, told, numbers, trail, late = {}, {}, {}, {}, {}
  for _, run in ipairs(runs) do
    local b = batch_of(run[1])
    if b and b.origin > 0 then
      if not told[b.origin] then
        told[b.origin] = true
        firsts[#firsts + 1] = text(b.origin)
        firsts[#firsts + 1] = use_name(name, #firsts)
      end
    else
      if not b then
        late[#late + 1] = records
        late[#late + 1] = run[2]
      end
      for _, n in ipairs(run[3]) do
        if not numbers[n] then
          numbers[n] = true
          local number = text(n)
          trail[#trail + 1] = number
          trail[#trail + 1] = use_name(name, number)
        end
      end
    end
    records = records + run[2]
  end
  local fields = { 'c', ARGV[at + 3], 'm', highest, 'r', leads_text(#firsts / 2, trail) }
  if #late > 0 then
    fields[7], fields[8] = 'l', late_text(late)
  end
  redis.call('XADD', LOGS[kind], id_of(text(k), text(now)), unpack(fields))
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
    local set, gone = { 'n', text(b.open) }, {}
    for offset in pairs(b.done) do
      set[#set + 1] = offset
      set[#set + 1] = '1'
    end
    for name, piece in pairs(b.pieces) do
      if piece and piece.dirty then
        if empty(piece) then
          gone[#gone + 1] = name
        else
          set[#set + 1] = name
          set[#set + 1] = piece_text(piece)
        end
      end
    end
    redis.call('HSET', b.key, unpack(set))
    if #gone > 0 then redis.call('HDEL', b.key, unpack(gone)) end
  end
end
write_runs()
write_counts()
write_unanswered()
write_lanes()
local close = cmsgpack.unpack(ARGV[5])
for i = 1, #close, 3 do close_lane(text(close[i]), now + close[i + 1], close[i + 2]) end
return answer(lost)
