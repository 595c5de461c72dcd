-- Deliveries in trouble: their records, their places in lanes, the counters that move with them.
--
-- A record is "letter,attempts,create,at,code": P is pending (at: when it is due, code: what it
-- waits for), S, F and C have ended (at: when, code: why, 0 for nothing more to say). Whether a
-- pending one waits or is attempted shows in the structure: it is in its lane, or in a batch.
-- A delivery's field is its lane, with ".tag" behind it for a replay. Field 0 is the event itself,
-- put off; field * is how far its fan-out got.

local function record(letter, attempts, create, at, code)
  return letter .. ',' .. attempts .. ',' .. text(create) .. ',' .. text(at) .. ',' .. code
end

local function parse(value)
  local letter, attempts, create, at, code =
    string.match(value, '^(%u),(%d+),(%d+),(%d+),(%d+)$')
  return letter, tonumber(attempts), tonumber(create), tonumber(at), tonumber(code)
end

-- Lane and tag of a field; as it stands in its lane and in batches.
local function lane_of(field) return (string.match(field, '^%d+')) end
local function tag_of(field) return string.sub(field, #lane_of(field) + 1) end
local function member(n, field) return n .. tag_of(field) end

-- Counters, gathered over the call. m, u: events matched, unmatched; c: deliveries created;
-- s, f, x: succeeded, failed, cancelled.
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

-- Streams of the log by the letter that names of their chunks begin with.
local LOGS = { l = base .. 'log', e = base .. 'elog' }

-- Lanes that something came into: when each is to be looked at, and whose it is.
local arrived, owner = {}, {}
local function arrive(field, n, due, tenant)
  local lane = lane_of(field)
  redis.call('ZADD', base .. 'lane:' .. lane, text(due), member(n, field))
  if not arrived[lane] or due < arrived[lane] then arrived[lane] = due end
  owner[lane] = tenant
end
local some_shut
local function shut_until(lane)
  if some_shut == nil then some_shut = redis.call('EXISTS', base .. 'shut') == 1 end
  if not some_shut then return 0 end
  local shut = redis.call('HGET', base .. 'shut', lane)
  return shut and tonumber(string.match(shut, '^%d+')) or 0
end
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
  redis.call('HSET', base .. 'shut', lane, text(till) .. ' ' .. why)
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
    redis.call('XADD', base .. 'end', 'MAXLEN', '~', ENDS_KEPT, text(k) .. '-' .. text(now), name,
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
  local ms, rest = string.match(body, '^(%d+):()')
  return string.sub(body, rest), n .. '-' .. ms
end
-- An entry begins with its format, the length of its tenant's id, and that id.
local function tenant_of(entry) return string.sub(entry, 3, 2 + string.byte(entry, 2)) end

-- The node that matches an event just now, if one does.
local function holder(n)
  for _, token in ipairs(redis.call('ZRANGE', base .. 'lease', 0, -1)) do
    local b = base .. 'b:' .. token
    local found = redis.call('HMGET', b, 'f', 'l', '@', n .. '.0')
    local first, last = tonumber(found[1] or '0'), tonumber(found[2] or '0')
    if found[4] then return found[3] end
    if first > 0 and first <= n and n <= last
      and redis.call('HEXISTS', b, text(n - first)) == 0 then
      return found[3]
    end
  end
  return nil
end
