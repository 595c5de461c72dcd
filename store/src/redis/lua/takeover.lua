-- Takes lapsed batches over: each gets a new token and a new owner, and the old token is dead.
--
-- ARGV: 5 the node, 6 the lease in ms, 7 how many, 8 takes from which a batch is a suspect, 9 the
-- incarnation, 10 the first free number of a token, 11 what lies between two of them, 12 how many
-- suspects, 13 how many lapsed batches to look at, 14 how long a suspect waits that is one too many.
--
-- A suspect of several items is halved: the second half lapses at once and belongs to whom it did.
-- Answers [ms to the next lapse (-1: none), batches]: [token, node before, takes, released, open
-- numbers, held field, record, ..., pieces of runs as [[lane, first number, when it began, bits],
-- ...]]; an open number is followed by its fan-out's cursor.
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

-- What is still open of a batch: numbers of its range, and names of what it holds. Deliveries in
-- pieces of runs are held under the names of their pieces, with a point and their number behind.
local function contents(b)
  local fields, done, owners, pieces = read_batch(b)
  local held = {}
  for name, tenant in pairs(owners) do
    held[#held + 1] = name
    fields[name] = tenant
  end
  table.sort(held)
  local names = {}
  for name in pairs(pieces) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    for _, n in ipairs(numbers_of(pieces[name], pieces[name].from)) do
      held[#held + 1] = name .. '.' .. text(n)
    end
  end
  local open, first = {}, tonumber(fields.f)
  if first > 0 then
    for n = first, tonumber(fields.l) do
      if not done[text(n - first)] then open[#open + 1] = text(n) end
    end
  end
  return fields, open, held, pieces
end
-- The pieces that some names are of, with no more in them, by name; and the names that are of none.
local function gather(held, pieces)
  local own, rest = {}, {}
  for _, name in ipairs(held) do
    local piece, n = string.match(name, '^(r%d+%.%d+)%.(%d+)$')
    if piece then
      local known = pieces[piece]
      local w = own[piece] or no_bits()
      w.why, w.began, w.from, w.lane = known.why, known.began, known.from, known.lane
      insert(w, n)
      own[piece] = w
    else
      rest[#rest + 1] = name
    end
  end
  return own, rest
end
local function cursor(n) return redis.call('HGET', base .. 'x:' .. n, '*') or '' end
local function tell(token, fields, takes, open, all_held, all_pieces)
  local pieces, held = gather(all_held, all_pieces)
  local numbers, names, told = {}, {}, {}
  for _, w in pairs(pieces) do
    told[#told + 1] = { w.lane, text(w.from), w.began, bits_text(w) }
  end
  table.sort(told, function(a, b) return tonumber(a[2]) < tonumber(b[2]) end)
  for _, n in ipairs(open) do
    local got = cursor(n)
    if got ~= '' then redis.call('HSET', base .. 'b:' .. token, 'c', '1') end
    numbers[#numbers + 1] = n
    numbers[#numbers + 1] = got
  end
  for _, name in ipairs(held) do
    local n, field = parse_name(name)
    if field == '0' then
      numbers[#numbers + 1] = n
      numbers[#numbers + 1] = open_text(n, redis.call('HGET', base .. 'x:' .. n, '0') or '')
    else
      names[#names + 1] = name
      names[#names + 1] = redis.call('HGET', base .. 'x:' .. n, field) or ''
    end
  end
  return { token, fields['@'], takes, fields.R == '1', numbers, names, told }
end

-- A new batch of these items.
local function make(node, takes, origin, open, all_held, fields, all_pieces)
  local pieces, held = gather(all_held, all_pieces)
  local token = new_token()
  local b = base .. 'b:' .. token
  local first, last = open[1] or '0', open[#open] or '0'
  redis.call('HSET', b, '@', node, 'k', takes, 'f', first, 'l', last, 'o', origin,
    'n', #open + #all_held)
  local at = 1
  for n = tonumber(first), #open > 0 and tonumber(last) or -1 do
    if open[at] == text(n) then
      at = at + 1
    else
      redis.call('HSET', b, text(n - first), '1')
    end
  end
  for _, name in ipairs(held) do redis.call('HSET', b, name, fields[name]) end
  for name, w in pairs(pieces) do redis.call('HSET', b, name, piece_text(w), 'p', '1') end
  return token
end
-- Cuts the second half off: open numbers first, then what is held.
local function halve(open, held)
  local keep = math.ceil((#open + #held) / 2)
  local open2, held2 = {}, {}
  while #open > keep do table.insert(open2, 1, table.remove(open)) end
  while #held > keep - #open do table.insert(held2, 1, table.remove(held)) end
  return open2, held2
end

local taken, suspects = {}, tonumber(ARGV[12])
local lapsed = redis.call('ZRANGEBYSCORE', base .. 'lease', '-inf', text(now), 'LIMIT', 0, ARGV[13])
for _, old in ipairs(lapsed) do
  if #taken >= tonumber(ARGV[7]) then break end
  local b = base .. 'b:' .. old
  local state = redis.call('HMGET', b, 'k', 'R')
  local takes = tonumber(state[1] or '0') + (state[2] == '1' and 0 or 1)
  local suspect = takes >= tonumber(ARGV[8])
  if suspect and suspects <= 0 then
    redis.call('ZADD', base .. 'lease', text(now + ARGV[14]), old)
  else
    local fields, open, held, pieces = contents(b)
    redis.call('ZREM', base .. 'lease', old)
    if #open + #held == 0 then
      redis.call('DEL', b)
    elseif suspect and #open + #held > 1 then
      suspects = suspects - 1
      redis.call('DEL', b)
      local open2, held2 = halve(open, held)
      local left = make(fields['@'], takes, fields.o, open2, held2, fields, pieces)
      redis.call('HSET', base .. 'b:' .. left, 'R', '1')
      redis.call('ZADD', base .. 'lease', text(now), left)
      local token = make(ARGV[5], takes, fields.o, open, held, fields, pieces)
      redis.call('ZADD', base .. 'lease', expiry, token)
      taken[#taken + 1] = tell(token, fields, takes, open, held, pieces)
    else
      if suspect then suspects = suspects - 1 end
      local token = new_token()
      local fresh = base .. 'b:' .. token
      redis.call('RENAME', b, fresh)
      redis.call('HSET', fresh, '@', ARGV[5], 'k', takes, 'n', #open + #held)
      redis.call('HDEL', fresh, 'R')
      redis.call('ZADD', base .. 'lease', expiry, token)
      taken[#taken + 1] = tell(token, fields, takes, open, held, pieces)
    end
  end
end
local next = redis.call('ZRANGE', base .. 'lease', 0, 0, 'WITHSCORES')[2]
local reply = { next and math.max(0, math.ceil(next - now)) or -1, taken }
if #taken == 0 then return cmsgpack.pack(reply) end
return answer(reply)
