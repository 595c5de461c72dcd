-- Deliveries in trouble: their records, their places in lanes, the counters that move with them.
--
-- The table in layout.rs says what values mean. Here are their writers and readers, for all
-- scripts. Whether a pending delivery waits or is attempted shows in the structure: it is in its
-- lane, or in a batch.

-- A delivery's record: "letter,attempts,create,at,code".
local function record(letter, attempts, create, at, code)
  return letter .. ',' .. attempts .. ',' .. text(create) .. ',' .. text(at) .. ',' .. code
end

local function parse(value)
  local letter, attempts, create, at, code =
    string.match(value, '^(%u),(%d+),(%d+),(%d+),(%d+)$')
  return letter, tonumber(attempts), tonumber(create), tonumber(at), tonumber(code)
end

-- The letter of a record alone.
local function letter_of(value) return string.sub(value, 1, 1) end

-- Lane and tag of a field; as it stands in its lane; the event and the field of what stands there.
local function lane_of(field) return (string.match(field, '^%d+')) end
local function tag_of(field) return string.sub(field, #lane_of(field) + 1) end
local function member(n, field) return n .. tag_of(field) end
local function parse_member(name, lane)
  local n = lane_of(name)
  return n, lane .. string.sub(name, #n + 1)
end
-- As batches and marks name it: "n.field".
local function name_of(n, field) return n .. '.' .. field end
local function parse_name(name) return string.match(name, '^(%d+)%.(.+)$') end

-- A closed lane: "until why".
local function shut_text(till, why) return text(till) .. ' ' .. why end
local function read_shut(value)
  local till, why = string.match(value, '^(%d+) (%d+)$')
  return tonumber(till), tonumber(why)
end
-- Events that a lane's filter had no answer for: "events moment reason".
local function errors_text(events, at, reason)
  return text(events) .. ' ' .. text(at) .. ' ' .. reason
end
local function read_errors(value)
  local events, at, rest = string.match(value, '^(%d+) (%d+) ()')
  return tonumber(events), tonumber(at), string.sub(value, rest)
end
-- The mark of a delivery that is to be cancelled: "why,moment".
local function mark_text(why, at) return why .. ',' .. text(at) end
local function read_mark(value)
  local why, at = string.match(value, '^(%d+),(%d+)$')
  return why, tonumber(at)
end
-- An event that was spared from trimming: "moment:entry".
local function saved_text(ms, entry) return ms .. ':' .. entry end
local function read_saved(value)
  local ms, rest = string.match(value, '^(%d+):()')
  return ms, string.sub(value, rest)
end
-- What a given id stands for: 16 bytes of digest, and the event's id.
local function given_text(digest, id) return digest .. id end
local function read_given(value) return string.sub(value, 1, 16), string.sub(value, 17) end
local function bucket_key(window, bucket)
  return base .. 'u:' .. text(window) .. ':' .. text(bucket)
end
-- The page of the bitmap of events that nobody wanted.
local function unmatched_key(n) return base .. 'un:' .. text(math.floor(n / 65536)) end

-- Counters, gathered over the call. m, u: events matched, unmatched; c: deliveries created;
-- s, f, x: succeeded, failed, cancelled; z: of u, events that were called off; h: events whose time
-- has not come, or that a node matches since it has.
local all, per_tenant = {}, {}
local function count(tenant, what, by)
  if by == 0 then return end
  all[what] = (all[what] or 0) + by
  local own = per_tenant[tenant]
  if not own then
    own = {}
    per_tenant[tenant] = own
  end
  own[what] = (own[what] or 0) + by
end
-- Deliveries that became pending, less those that ended, by stretch of 256 event numbers: one hash
-- for each 256 stretches, and one of their sums. What is zero is not there.
local pend_by = {}
local function pend(n, by)
  local stretch = math.floor(n / 256)
  pend_by[stretch] = (pend_by[stretch] or 0) + by
end
local function write_pending()
  for stretch, by in pairs(pend_by) do
    if by ~= 0 then
      local page = math.floor(stretch / 256)
      local fine, name = base .. 'pf:' .. text(page), text(stretch)
      if redis.call('HINCRBY', fine, name, by) == 0 then redis.call('HDEL', fine, name) end
      if redis.call('HINCRBY', base .. 'pc', text(page), by) == 0 then
        redis.call('HDEL', base .. 'pc', text(page))
      end
    end
  end
end
local function write_counts()
  write_pending()
  for what, by in pairs(all) do redis.call('HINCRBY', base .. 'n', what, by) end
  for tenant, own in pairs(per_tenant) do
    for what, by in pairs(own) do redis.call('HINCRBY', base .. 'n:' .. tenant, what, by) end
  end
end
local ENDS = { S = 's', F = 'f', C = 'x' }
-- The books of all, or of a tenant: counters in the order below.
local BOOKS = { 'a', 'm', 'u', 'c', 's', 'f', 'x', 'z', 'h' }
local function books_key(tenant)
  return tenant == '' and base .. 'n' or base .. 'n:' .. tenant
end
local function read_books(tenant)
  local found = redis.call('HMGET', books_key(tenant), unpack(BOOKS))
  for i = 1, #BOOKS do found[i] = tonumber(found[i] or '0') end
  return found
end
-- What they leave: events that are to be matched, deliveries that are pending.
local function left_of(books)
  return books[1] - books[2] - books[3], books[4] - books[5] - books[6] - books[7]
end

-- Streams of the log by the letter that names of their chunks begin with.
local LOGS = { l = base .. 'log', e = base .. 'elog' }
-- A chunk's name, and one of its uses.
local function chunk_name(stream, k) return stream .. text(k) end
local function use_name(chunk, part) return chunk .. '.' .. part end
-- What leads to a chunk: how many members of the map, numbers and members of the trail in turn.
-- What is late in one: starts and lengths in turn.
local function leads_text(firsts, trail) return cmsgpack.pack({ firsts, trail }) end
local function late_text(late) return cmsgpack.pack(late) end

-- Lanes that something came into: when each is to be looked at, and whose it is.
local arrived, owner = {}, {}
local function arrive(field, n, due, tenant)
  local lane = lane_of(field)
  redis.call('ZADD', base .. 'lane:' .. lane, text(due), member(n, field))
  if not arrived[lane] or due < arrived[lane] then arrived[lane] = due end
  owner[lane] = tenant
end
local some_shut
-- Until when a lane is or was closed, and why; 0: it was not.
local function shut_of(lane)
  if some_shut == nil then some_shut = redis.call('EXISTS', base .. 'shut') == 1 end
  local shut = some_shut and redis.call('HGET', base .. 'shut', lane)
  if not shut then return 0 end
  return read_shut(shut)
end
local function shut_until(lane) return (shut_of(lane)) end
local function write_lanes()
  for lane, due in pairs(arrived) do
    local wake = math.max(due, shut_until(lane))
    if redis.call('ZADD', base .. 'lanes', 'LT', text(wake), lane) == 1 then
      redis.call('HSET', base .. 'own', lane, owner[lane])
    end
  end
end

-- Closes a lane; closing longer wins.
local function close_lane(lane, till, why)
  if till <= shut_until(lane) then return end
  redis.call('HSET', base .. 'shut', lane, shut_text(till, why))
  some_shut = true
  redis.call('ZADD', base .. 'lanes', 'XX', 'GT', text(till), lane)
end

-- Ends a delivery: its record, its place among the failed, its counter. What it spared from being
-- trimmed is looked at anew.
local function finish(n, field, tenant, letter, attempts, create, code)
  redis.call('HSET', base .. 'x:' .. n, field, record(letter, attempts, create, now, code))
  if letter == 'F' then
    local lane = lane_of(field)
    redis.call('ZADD', base .. 'fail:' .. lane, n, member(n, field))
    redis.call('HSETNX', base .. 'own', lane, tenant)
  end
  redis.call('ZADD', base .. 'old', 'XX', text(now), n)
  count(tenant, ENDS[letter], 1)
  pend(n, -1)
end

-- Whether the record of an event that is put off says that its time has not come.
local function is_scheduled(value)
  local letter, _, _, _, code = parse(value)
  return letter == 'P' and code == SCHEDULED
end
-- What a claim is told of an event that was put off, by that record: how far its fan-out got, and a
-- mark behind it where its time has come.
local function open_text(n, value)
  local cursor = redis.call('HGET', base .. 'x:' .. n, '*') or ''
  return is_scheduled(value) and cursor .. '!' or cursor
end
-- Calls an event off, by that record, if it waits for its time; false: nothing was done.
local function call_off(n, tenant, value, why)
  if not is_scheduled(value) or redis.call('ZREM', base .. 'lane:0', n) == 0 then return false end
  local _, _, created = parse(value)
  redis.call('HSET', base .. 'x:' .. n, '0', record('C', 0, created, now, why))
  redis.call('ZADD', base .. 'old', 'XX', text(now), n)
  -- Pages below the mark are gone for good.
  if tonumber(n) > tonumber(redis.call('HGET', KEYS[1], 'trim') or '0') then
    redis.call('SETBIT', unmatched_key(n), n % 65536, 1)
  end
  count(tenant, 'u', 1)
  count(tenant, 'z', 1)
  count(tenant, 'h', -1)
  return true
end

-- Ends that no attempt tells of, gathered over the call for who watches: seven texts each.
local ends = {}
local function tell(n, field, tenant, letter, attempts, create, code)
  for _, part in ipairs({ n, field, tenant, letter, tostring(attempts), text(create),
    tostring(code) }) do
    ends[#ends + 1] = part
  end
end
-- What ended of runs: one entry each, bits last.
local ended_runs = {}
local function tell_run(from, lane, tenant, letter, began, code, bits)
  ended_runs[#ended_runs + 1] =
    cmsgpack.pack({ text(from), lane, tenant, letter, text(began), tostring(code), bits })
end
local function write_ends(k)
  local before = k
  local function write(name, packed)
    k = k + 1
    redis.call('XADD', base .. 'end', 'MAXLEN', '~', ENDS_KEPT, id_of(text(k), text(now)), name,
      packed)
  end
  if #ends > 0 then write('d', cmsgpack.pack(ends)) end
  for _, packed in ipairs(ended_runs) do write('r', packed) end
  if k > before then redis.call('HSET', KEYS[1], 'dk', text(k)) end
end

-- The entry of an event and its id; nothing, if it is kept no more.
local function entry_of(n)
  local found = redis.call('XRANGE', base .. 'ev', n, n)
  if found[1] then return found[1][2][2], found[1][1] end
  local body = redis.call('GET', base .. 'body:' .. n)
  if not body then return nil end
  local ms, entry = read_saved(body)
  return entry, id_of(n, ms)
end
-- An entry begins with its format, the length of its tenant's id, and that id.
local function tenant_of(entry) return string.sub(entry, 3, 2 + string.byte(entry, 2)) end
-- Behind it come two bytes of length and the head, whose first byte says what it is.
local function is_erased(entry)
  return string.byte(entry, 5 + string.byte(entry, 2)) == HEAD_ERASED
end

-- The node that matches an event just now, if one does.
local function holder(n)
  for _, token in ipairs(redis.call('ZRANGE', base .. 'lease', 0, -1)) do
    local b = base .. 'b:' .. token
    local found = redis.call('HMGET', b, 'f', 'l', '@', name_of(n, '0'))
    local first, last = tonumber(found[1] or '0'), tonumber(found[2] or '0')
    if found[4] then return found[3] end
    if first > 0 and first <= n and n <= last
      and redis.call('HEXISTS', b, text(n - first)) == 0 then
      return found[3]
    end
  end
  return nil
end
