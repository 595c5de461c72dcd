-- What waits, at a cost that does not grow with it. ARGV: 5 records to look at in one stretch at
-- most, then ages in ms, rising.
-- Answers [now, events to be matched, deliveries pending, when the oldest one's event was accepted
-- (-1: none), [for each age, deliveries whose event is older]].
local m = marks('trim', 'last')
if not m then return EPOCH end
local look = tonumber(ARGV[5])
local books = read_books('')
local events, pending = left_of(books)
events = events - books[9]

-- A hash of counters, by number.
local function counters(key)
  local flat, all, sum, lowest = redis.call('HGETALL', key), {}, 0, nil
  for i = 1, #flat, 2 do
    local page, count = tonumber(flat[i]), math.max(0, tonumber(flat[i + 1]))
    all[page], sum = count, sum + count
    if count > 0 and (not lowest or page < lowest) then lowest = page end
  end
  return all, sum, lowest
end
local pages, counted, lowest = counters(base .. 'pc')
local fine = {}
local function stretches(page)
  if not fine[page] then fine[page] = { counters(base .. 'pf:' .. text(page)) } end
  return fine[page]
end

-- Pending deliveries of an event; how many records were looked at for it.
local function pending_of(n, left)
  local x = base .. 'x:' .. text(n)
  local records = redis.call('HLEN', x)
  if records == 0 or records > left then return 0, records end
  local flat, own = redis.call('HGETALL', x), 0
  for i = 1, #flat, 2 do
    local waits = letter_of(flat[i + 1]) == 'P'
    if waits and flat[i] ~= '0' and flat[i] ~= '*' then own = own + 1 end
  end
  return own, records
end
-- Bits of a stretch's deliveries that wait in runs or are held of them; nothing where they are of
-- too many lanes.
local RUN_COST = 4
local function runs_of(stretch, left)
  local key = runs_key(stretch * 256)
  local fields, all = redis.call('HLEN', key), {}
  if fields * RUN_COST > left then return nil, fields * RUN_COST end
  if fields == 0 then return all, 0 end
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if not is_ended(flat[i]) then all[#all + 1] = read_bits(flat[i + 1]) end
  end
  return all, fields * RUN_COST
end
-- Those of a stretch's events below a number: counted, or in proportion where records are too many.
local function part(stretch, all, below)
  local first, own, left = stretch * 256, 0, look
  local runs, cost = runs_of(stretch, left)
  left = left - cost
  for _, w in ipairs(runs or {}) do own = own + ones(below_of(w, first, below)) end
  for n = first, below - 1 do
    if left < 0 then break end
    local here, records = pending_of(n, left)
    left = left - records
    own = own + here
  end
  if left < 0 then return math.floor(all * (below - first) / 256) end
  return own
end
-- Pending deliveries of events below a number.
local function below(n)
  local sum, page, stretch = 0, math.floor(n / 65536), math.floor(n / 256)
  for at, count in pairs(pages) do
    if at < page then sum = sum + count end
  end
  if not pages[page] then return sum end
  for at, count in pairs(stretches(page)[1]) do
    if at < stretch then sum = sum + count
    elseif at == stretch then sum = sum + part(stretch, count, n) end
  end
  return sum
end

-- What was pending before anybody counted is the oldest.
local uncounted = math.max(0, pending - counted)
local oldest = -1
if lowest then
  local stretch = stretches(lowest)[3] or lowest * 256
  local left, id, first = look, nil, nil
  local runs = runs_of(stretch, left)
  if not runs then -- of too many lanes: some of them, by chance
    runs = {}
    local flat = redis.call('HRANDFIELD', runs_key(stretch * 256), 500, 'WITHVALUES')
    for i = 1, #flat, 2 do
      if not is_ended(flat[i]) then runs[#runs + 1] = read_bits(flat[i + 1]) end
    end
  end
  local waiting = no_bits()
  for _, w in ipairs(runs) do add_all(waiting, w) end
  if not empty(waiting) then first = numbers_of(waiting, stretch * 256)[1] end
  for n = stretch * 256, (first or stretch * 256 + 256) - 1 do
    local own, records = pending_of(n, left)
    left = left - records
    if own > 0 or left < 0 then
      first = n
      break
    end
  end
  if first then id = select(2, entry_of(text(first))) end
  if id then oldest = tonumber((select(2, parse_id(id)))) end
end

-- The first event accepted at or after a moment, below `high`; accept times rise with numbers.
local function first_since(wanted, high)
  local low = m[1] + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local row = redis.call('XRANGE', base .. 'ev', text(middle), '+', 'COUNT', 1)[1]
    local n, ms = parse_id(row and row[1] or '')
    if n and tonumber(ms) < wanted then low = tonumber(n) + 1 else high = middle end
  end
  return low
end
local older, high = {}, m[2] + 1
for i = 6, #ARGV do
  local wanted, count = now - ARGV[i], uncounted
  if oldest >= 0 and oldest < wanted then
    high = first_since(wanted, high)
    count = count + below(high)
  end
  older[#older + 1] = count
end
return cmsgpack.pack({ now, math.max(0, events), math.max(0, pending), oldest, older })
