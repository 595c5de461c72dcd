-- Leases due deliveries; lanes take turns, round after round.
--
-- ARGV: 5 the token, 6 the node, 7 how many, 8 the lease in ms, 9 what one lane hands out, 10 free
-- slots as [lane, slots, ...], 11 free slots of every other lane, 12 lanes to look at even though
-- they were put off, 13 how many lanes to look at, 14 how long a full lane is put off, 15 how many
-- of those at most that have records, 16 for how long a lane is on trial that a breaker had closed.
-- Answers [more, ms to the next look (-1: none), [[lane, [member, record, ...]], ...], pieces of
-- runs as [[lane, first number, when it began, bits], ...], lanes on trial that handed something out].
-- Nothing of a closed lane is looked at, whatever waits in it.
local before = answered()
if before then return before end
if not marks() then return EPOCH end
local want, quantum, look = tonumber(ARGV[7]), tonumber(ARGV[9]), tonumber(ARGV[13])
local slots, other = {}, tonumber(ARGV[11])
local listed = cmsgpack.unpack(ARGV[10])
for i = 1, #listed, 2 do slots[text(listed[i])] = listed[i + 1] end
local lanes = base .. 'lanes'

local found, seen = {}, {}
for _, lane in ipairs(cmsgpack.unpack(ARGV[12])) do
  local name = text(lane)
  if not seen[name] and redis.call('ZSCORE', lanes, name) then
    seen[name] = true
    found[#found + 1] = name
  end
end
local pulled = #found
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', lanes, '-inf', text(now), 'LIMIT', 0, look)) do
  if not seen[lane] then found[#found + 1] = lane end
end
local more = #found - pulled >= look
-- Lanes that were visited and have more go behind those that were not, in the order of their turns.
local turn = 0
local function again_now()
  turn = turn + 1
  return format('%.3f', now - 0.999 + turn * 0.001)
end
-- When lanes that were visited are to be looked at again; false: they are empty.
local looks = {}

local alone, with_record = #found == 1, tonumber(ARGV[15])
local taken, handed, held, given, pieces, names = 0, {}, {}, {}, {}, {}
-- A run by its member in a lane, and how many deliveries it has; nothing and 0 for a delivery.
local function run_of(name, lane)
  local from = parse_run(name)
  local run = from and wait_of(from, lane)
  if run and not run.many then run.many = ones(run) end
  return run, from, run and run.many or 0
end
-- Takes so many deliveries of a run, or all; says how many that was.
local function take_run(lane, name, most)
  local run, from, all = run_of(name, lane)
  local many = math.min(all, most)
  if many == all then redis.call('ZREM', base .. 'lane:' .. lane, name) end
  if many == 0 then return 0 end
  local w = first_ones(run, most)
  remove_all(run, w)
  run.dirty, run.delta, run.many = true, run.delta - many, all - many
  add_all(held_of(from, lane), w)
  local field = piece_name(from, lane)
  local piece = pieces[field]
  if not piece then
    piece = no_bits()
    piece.why, piece.began, piece.lane, piece.from = run.why, run.began, lane, from
    pieces[field] = piece
    names[#names + 1] = field
  end
  add_all(piece, w)
  return many
end

-- Lanes that a breaker closed until not long ago.
local trials = {}

-- Lets a lane hand out its share; whether it is to have another turn.
local function visit(lane)
  local until_, why = shut_of(lane)
  if until_ > now then
    looks[lane] = text(until_)
    return false
  elseif until_ > 0 then
    if why == BREAKER_OPEN and now - until_ < tonumber(ARGV[16]) then
      trials[lane] = true
    else
      redis.call('HDEL', base .. 'shut', lane)
    end
  end
  local key = base .. 'lane:' .. lane
  local free = (lane == '0' and want or slots[lane] or other) - (given[lane] or 0)
  if free <= 0 then
    looks[lane] = redis.call('EXISTS', key) == 1 and text(now + ARGV[14])
    return false
  end
  -- A lane alone has turn after turn.
  local share = math.min(alone and want or quantum, free, want - taken)
  local most = math.min(share, with_record) -- of members
  local members = redis.call('ZRANGEBYSCORE', key, '-inf', text(now), 'LIMIT', 0, 1)
  -- A run may hold all that is wanted.
  local first = members[1]
  local left = first and select(3, run_of(first, lane)) or 0
  if first and share > 1 and left < share then
    members = redis.call('ZRANGEBYSCORE', key, '-inf', text(now), 'LIMIT', 0, math.max(most, 2))
  end
  local many, records = 0, {}
  for _, name in ipairs(members) do
    if many == share then break end
    if parse_run(name) then
      many = many + take_run(lane, name, share - many)
    elseif #records < most then
      many = many + 1
      records[#records + 1] = name
    else
      break
    end
  end
  taken, with_record = taken + many, with_record - #records
  if #records > 0 then
    redis.call('ZREM', key, unpack(records))
    local tenant = redis.call('HGET', base .. 'own', lane) or ''
    local items = {}
    for _, name in ipairs(records) do
      local n, field = parse_member(name, lane)
      local value = redis.call('HGET', base .. 'x:' .. n, field)
      if value then
        if lane == '0' then value = open_text(n, value) end
        items[#items + 1] = name
        items[#items + 1] = value
        held[#held + 1] = name_of(n, field)
        held[#held + 1] = tenant
      else
        taken = taken - 1
      end
    end
    handed[#handed + 1] = { lane, items }
  end
  given[lane] = (given[lane] or 0) + many
  if #members > 0 and most == 0 and many == 0 then -- only records, and no more of them go
    looks[lane], more = again_now(), true
    return false
  end
  local next = left > share and text(now) or redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if not next then
    looks[lane] = false
  elseif tonumber(next) > now then
    looks[lane] = next
  elseif many >= free then
    looks[lane] = text(now + ARGV[14])
  else
    looks[lane] = again_now()
    return true
  end
  return false
end
local i = 1
while found[i] do
  local lane = found[i]
  if taken >= want then
    more = more or i > pulled or (looks[lane] or redis.call('ZSCORE', lanes, lane)) + 0 <= now
    break
  end
  if visit(lane) then found[#found + 1] = lane end
  i = i + 1
end
local told = {}
for _, name in ipairs(names) do
  local piece = pieces[name]
  held[#held + 1] = name
  held[#held + 1] = piece_text(piece)
  told[#told + 1] = { piece.lane, text(piece.from), piece.began, bits_text(piece) }
end
if taken > 0 then
  local b = base .. 'b:' .. ARGV[5]
  redis.call('HSET', b, '@', ARGV[6], 'k', 1, 'f', 0, 'l', 0, 'o', 0, 'n', taken, unpack(held))
  if #told > 0 then redis.call('HSET', b, 'p', '1') end
  redis.call('ZADD', base .. 'lease', text(now + ARGV[8]), ARGV[5])
end
write_runs()
local later, gone = {}, {}
for lane, look in pairs(looks) do
  if look then
    later[#later + 1] = look
    later[#later + 1] = lane
  else
    gone[#gone + 1] = lane
  end
end
if #later > 0 then redis.call('ZADD', lanes, unpack(later)) end
if #gone > 0 then redis.call('ZREM', lanes, unpack(gone)) end
local next = redis.call('ZRANGE', lanes, 0, 0, 'WITHSCORES')[2]
local tried = {}
for lane in pairs(trials) do
  if (given[lane] or 0) > 0 then tried[#tried + 1] = tonumber(lane) end
end
local reply = { more, next and math.max(0, math.ceil(next - now)) or -1, handed, told, tried }
if taken == 0 then return cmsgpack.pack(reply) end
return answer(reply)
