-- Runs: deliveries that wait and were never attempted, a bit for each of 256 event numbers. The
-- table in layout.rs says how they lie in the hash of their first number, in lanes and in batches.
--
-- Here bits are eight words of 32: the highest bit of the first word is of the first event.
local BITS, PIECE, END = '>I4I4I4I4I4I4I4I4', '>I4I4I4I4I4I4I4I4BI6', '>c1BI6I6'
local ENDED, SLACK = 46, 1000
local band, bor, bnot, lshift, rshift = bit.band, bit.bor, bit.bnot, bit.lshift, bit.rshift

local function from_of(n) return n - n % 256 end
local function runs_key(from) return base .. 'r:' .. text(from) end
local function held_field(lane) return 'h' .. lane end
local function ended_field(lane) return 'e' .. lane end
local function is_ended(field) return string.byte(field) == 101 end -- e
local function member_of(from) return 'r' .. text(from) end
-- The first number of the run that a lane's member is; nothing, if it is a delivery.
local function parse_run(name)
  return string.byte(name) == 114 and tonumber(string.sub(name, 2)) or nil -- r
end
-- A piece's field in a batch.
local function piece_name(from, lane) return member_of(from) .. '.' .. lane end
local function parse_piece(name)
  local from, lane = string.match(name, '^r(%d+)%.(%d+)$')
  return tonumber(from), lane
end

local function no_bits() return { 0, 0, 0, 0, 0, 0, 0, 0 } end
local function empty(w)
  for i = 1, 8 do if w[i] ~= 0 then return false end end
  return true
end
local function place(n)
  local offset = n % 256
  return (offset - offset % 32) / 32 + 1, lshift(1, 31 - offset % 32)
end
local function has(w, n)
  local i, mask = place(n)
  return band(w[i], mask) ~= 0
end
local function insert(w, n)
  local i, mask = place(n)
  w[i] = bor(w[i], mask)
end
local function remove(w, n)
  local i, mask = place(n)
  w[i] = band(w[i], bnot(mask))
end
local function both(a, b)
  local w = {}
  for i = 1, 8 do w[i] = band(a[i], b[i]) end
  return w
end
local function without(a, b)
  local w = {}
  for i = 1, 8 do w[i] = band(a[i], bnot(b[i])) end
  return w
end
-- Adds bits to words, and takes them away.
local function add_all(w, more) for i = 1, 8 do w[i] = bor(w[i], more[i]) end end
local function remove_all(w, less) for i = 1, 8 do w[i] = band(w[i], bnot(less[i])) end end
local function ones_in(word)
  if word == 0 then return 0 end
  word = word - band(rshift(word, 1), 0x55555555)
  word = band(word, 0x33333333) + band(rshift(word, 2), 0x33333333)
  word = band(word + rshift(word, 4), 0x0F0F0F0F)
  word = word + rshift(word, 8)
  return band(word + rshift(word, 16), 63)
end
local function ones(w)
  local sum = 0
  for i = 1, 8 do sum = sum + ones_in(w[i]) end
  return sum
end
-- The first so many.
local function first_ones(w, most)
  local found = no_bits()
  for i = 1, 8 do
    local own = ones_in(w[i])
    if own <= most then
      found[i], most = w[i], most - own
    else
      local word, mask = 0, lshift(1, 31)
      while most > 0 do
        if band(w[i], mask) ~= 0 then word, most = bor(word, mask), most - 1 end
        mask = rshift(mask, 1)
      end
      found[i] = word
    end
    if most == 0 then break end
  end
  return found
end
-- Those of events below a number.
local function below_of(w, from, n)
  local found = no_bits()
  for i = 1, 8 do
    local first = from + (i - 1) * 32
    if n >= first + 32 then
      found[i] = w[i]
    elseif n > first then
      found[i] = band(w[i], bnot(rshift(-1, n - first)))
    end
  end
  return found
end
-- Their numbers, lowest first.
local function numbers_of(w, from)
  local numbers = {}
  for i = 1, 8 do
    local word, first = w[i], from + (i - 1) * 32
    if word ~= 0 then
      for offset = 0, 31 do
        if band(word, lshift(1, 31 - offset)) ~= 0 then numbers[#numbers + 1] = first + offset end
      end
    end
  end
  return numbers
end

local function read_bits(value, at) return { struct.unpack(BITS, value, at or 1) } end
local function bits_text(w)
  return struct.pack(BITS, w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8])
end
local function read_piece(value)
  local w = { struct.unpack(PIECE, value) }
  w.why, w.began = w[9], w[10]
  return w
end
local function piece_text(w)
  return struct.pack(PIECE, w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w.why, w.began)
end
local function ended_text(w, letter, why, at, began)
  return bits_text(w) .. struct.pack(END, letter, why, at, began)
end
-- Whether an event's bit is set in what is written, from a place on.
local function bit_in(value, at, n)
  local offset = n % 256
  return band(string.byte(value, at + (offset - offset % 8) / 8), rshift(0x80, offset % 8)) ~= 0
end
-- How an event's delivery ended with others: letter, why, when, and when their run had begun.
local function ended_in(value, n)
  for at = 1, #value, ENDED do
    if bit_in(value, at, n) then return struct.unpack(END, value, at + 32) end
  end
  return nil
end

-- What a batch has: its fields by name, which events of its range are done with by their distance
-- from the first, the tenants of what it holds by name, and pieces of runs, each with its first
-- number and its lane, by name.
local function read_batch(key)
  local flat, fields, done, held, pieces = redis.call('HGETALL', key), {}, {}, {}, {}
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    local from, lane = parse_piece(name)
    if from then
      local piece = read_piece(value)
      piece.from, piece.lane = from, lane
      pieces[name] = piece
    elseif parse_name(name) then
      held[name] = value
    elseif string.find(name, '^%d') then
      done[name] = true
    else
      fields[name] = value
    end
  end
  return fields, done, held, pieces
end

-- What waits and what is held, as this call has it: by their first number and lane.
local waits, helds = {}, {}
local function own_of(all, from)
  local own = all[from]
  if not own then
    own = {}
    all[from] = own
  end
  return own
end
local function as_wait(value)
  if not value then return false end
  local run = read_piece(value)
  run.was, run.delta = true, 0
  return run
end
-- The run that waits; nothing, if there is none.
local function wait_of(from, lane)
  local own = own_of(waits, from)
  local run = own[lane]
  if run == nil then
    run = as_wait(redis.call('HGET', runs_key(from), lane))
    own[lane] = run
  end
  if run and not empty(run) then return run end
  return nil
end
-- Reads what waits in several lanes at once.
local function read_waits(from, lanes)
  local own, unread = own_of(waits, from), {}
  for _, lane in ipairs(lanes) do
    if own[lane] == nil then
      own[lane] = false
      unread[#unread + 1] = lane
    end
  end
  if #unread == 0 then return end
  for i, value in ipairs(redis.call('HMGET', runs_key(from), unpack(unread))) do
    own[unread[i]] = as_wait(value)
  end
end
-- The run that waits, begun if there is none; it is about to get so many more.
local function run_for(from, lane, began, why, more)
  local run = wait_of(from, lane)
  if not run then
    run = own_of(waits, from)[lane]
    if not run then
      run = no_bits()
      run.was, run.delta = false, 0
      waits[from][lane] = run
    end
    run.began, run.begun = began, true
  end
  run.why, run.dirty, run.delta = why, true, run.delta + more
  return run
end
local function arrive_run(lane, tenant)
  if not arrived[lane] or now < arrived[lane] then arrived[lane] = now end
  owner[lane] = tenant
end
local function held_of(from, lane)
  local own = own_of(helds, from)
  local held = own[lane]
  if not held then
    local value = redis.call('HGET', runs_key(from), held_field(lane))
    held = value and read_bits(value) or no_bits()
    own[lane] = held
  end
  return held
end

local function write_runs()
  local more = {}
  for from, own in pairs(waits) do
    local set, gone, name = {}, {}, member_of(from)
    for lane, run in pairs(own) do
      if run and run.dirty then
        local left = not empty(run)
        if left then
          set[#set + 1] = lane
          set[#set + 1] = piece_text(run)
          if run.begun then redis.call('ZADD', base .. 'lane:' .. lane, text(run.began), name) end
        elseif run.was then
          gone[#gone + 1] = lane
          redis.call('ZREM', base .. 'lane:' .. lane, name)
        end
        more[lane] = (more[lane] or 0) + run.delta - (left and 1 or 0) + (run.was and 1 or 0)
      end
    end
    if #set > 0 then redis.call('HSET', runs_key(from), unpack(set)) end
    if #gone > 0 then redis.call('HDEL', runs_key(from), unpack(gone)) end
  end
  for from, own in pairs(helds) do
    local set, gone = {}, {}
    for lane, held in pairs(own) do
      if empty(held) then
        gone[#gone + 1] = held_field(lane)
      else
        set[#set + 1] = held_field(lane)
        set[#set + 1] = bits_text(held)
      end
    end
    if #set > 0 then redis.call('HSET', runs_key(from), unpack(set)) end
    if #gone > 0 then redis.call('HDEL', runs_key(from), unpack(gone)) end
  end
  for lane, by in pairs(more) do
    if by ~= 0 and redis.call('HINCRBY', base .. 'rw', lane, by) == 0 then
      redis.call('HDEL', base .. 'rw', lane)
    end
  end
end

-- Whether a delivery of an event waits in a run or is held of one.
local function pending_in_runs(n)
  local flat = redis.call('HGETALL', runs_key(from_of(n)))
  for i = 1, #flat, 2 do
    if not is_ended(flat[i]) and bit_in(flat[i + 1], 1, n) then return true end
  end
  return false
end
-- Of a run's events, those of which something is pending, or failed at or after a moment; and
-- whether any ended with others.
local function kept_by_runs(from, failed_from)
  local kept, some = no_bits(), false
  local flat = redis.call('HGETALL', runs_key(from))
  for i = 1, #flat, 2 do
    local value = flat[i + 1]
    if not is_ended(flat[i]) then
      add_all(kept, read_bits(value))
    else
      some = true
      for at = 1, #value, ENDED do
        local letter, _, ended = struct.unpack(END, value, at + 32)
        if letter == 'F' and ended >= failed_from then add_all(kept, read_bits(value, at)) end
      end
    end
  end
  return kept, some
end
-- Forgets how deliveries of events ended with others.
local function forget_ended(from, events)
  local key = runs_key(from)
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if is_ended(flat[i]) then
      local value, rest, failed = flat[i + 1], {}, false
      for at = 1, #value, ENDED do
        local left = without(read_bits(value, at), events)
        if not empty(left) then
          rest[#rest + 1] = bits_text(left) .. string.sub(value, at + 32, at + ENDED - 1)
          failed = failed or string.byte(value, at + 32) == 70 -- F
        end
      end
      local joined = table.concat(rest)
      if joined == '' then
        redis.call('HDEL', key, flat[i])
      elseif joined ~= value then
        redis.call('HSET', key, flat[i], joined)
      end
      if not failed then
        redis.call('ZREM', base .. 'fr:' .. string.sub(flat[i], 2), text(from))
      end
    end
  end
end

-- What is spared from being trimmed is looked at anew once deliveries of it ended.
local function look_anew(from, w, trim)
  if trim < from or redis.call('EXISTS', base .. 'old') == 0 then return end
  for _, n in ipairs(numbers_of(w, from)) do
    redis.call('ZADD', base .. 'old', 'XX', text(now), text(n))
  end
end
-- When a delivery was made that lies in a run.
local function created_of(n, began)
  local _, id = entry_of(n)
  return math.max(began, id and tonumber((select(2, parse_id(id)))) or 0)
end
