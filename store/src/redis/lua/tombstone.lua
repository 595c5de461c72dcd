-- Puts a tombstone in the place of an event of which nothing is pending. ARGV: 5 the event's number,
-- 6 its time, 7 the entry of the tombstone. An entry of a stream cannot be changed: what is left of
-- an event lies beside it. Answers U where there is no such event, O where something is to be done
-- with it yet, or with one that lies next to it, D where it is done.
local m = marks('cur')
if not m then return EPOCH end
local n, number = ARGV[5], tonumber(ARGV[5])
local entry, id = entry_of(n)
if not entry or id ~= id_of(n, ARGV[6]) then return cmsgpack.pack('U') end
if is_erased(entry) then return cmsgpack.pack('D') end
if number > m[1] or pending_in_runs(number) or holder(number) then return cmsgpack.pack('O') end
for _, value in ipairs(redis.call('HVALS', base .. 'x:' .. n)) do
  local letter = parse(value)
  if not letter or letter == 'P' then return cmsgpack.pack('O') end
end

-- Redis keeps the bytes of a deleted entry while others of its node in the stream are there. A node
-- has 4 KiB and 100 entries at most, so what may share one with it leaves the stream as well. What
-- is not matched cannot, for it is found by its number there: until it is, nothing is done.
local NODE_BYTES, NODE_ENTRIES = 4096, 100
local bound = m[1]
for _, token in ipairs(redis.call('ZRANGE', base .. 'lease', 0, -1)) do
  local first = tonumber(redis.call('HGET', base .. 'b:' .. token, 'f') or '0')
  if first > 0 then bound = math.min(bound, first - 1) end
end
local moved = { { n, ARGV[6], ARGV[7] } }
local function may_leave(command, step, last)
  local bytes, at = #entry, number
  for _ = 2, NODE_ENTRIES do
    if bytes >= NODE_BYTES then return true end
    local row = redis.call(command, base .. 'ev', text(at + step), last, 'COUNT', 1)[1]
    if not row then return true end
    local which, ms = parse_id(row[1])
    at, bytes = tonumber(which), bytes + #row[2][2]
    if at > bound then return false end
    moved[#moved + 1] = { which, ms, row[2][2] }
  end
  return true
end
if number > 1 and not may_leave('XREVRANGE', -1, '-') then return cmsgpack.pack('O') end
if not may_leave('XRANGE', 1, '+') then return cmsgpack.pack('O') end

-- One that was spared from trimming lies below the stream already.
for _, it in ipairs(moved) do
  local own = id_of(it[1], it[2])
  redis.call('SET', base .. 'body:' .. it[1], saved_text(it[2], it[3]))
  if redis.call('XDEL', base .. 'ev', own) == 1 then
    redis.call('ZADD', base .. 'tomb', it[1], own)
  end
end
return cmsgpack.pack('D')
