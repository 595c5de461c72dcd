-- Cancels one delivery. ARGV: 5 the event's number, 6 its time, 7 the delivery's field, 8 why.
-- Answers its letter if it had ended, D done, I in flight, U unknown, or L: the log tells.
local m = marks('cur', 'dk')
if not m then return EPOCH end
local n, field = ARGV[5], ARGV[7]
local lane = lane_of(field)
local entry, id = entry_of(n)
if lane == '0' or id ~= id_of(n, ARGV[6]) then return cmsgpack.pack('U') end
local function mark()
  redis.call('HSETNX', base .. 'kill', name_of(n, field), mark_text(ARGV[8], now))
  return cmsgpack.pack('I')
end
-- Where a lane has nothing left, nobody looks at it.
local function forget_lane()
  if redis.call('EXISTS', base .. 'lane:' .. lane) == 0 then
    redis.call('ZREM', base .. 'lanes', lane)
  end
end
local function done(attempts, created)
  local tenant = redis.call('HGET', base .. 'own', lane) or tenant_of(entry)
  finish(n, field, tenant, 'C', attempts, created, ARGV[8])
  tell(n, field, tenant, 'C', attempts, created, ARGV[8])
  write_ends(m[2])
  write_counts()
  return cmsgpack.pack('D')
end
local value = redis.call('HGET', base .. 'x:' .. n, field)
if not value and tag_of(field) == '' then
  local number = tonumber(n)
  local from = from_of(number)
  local run = wait_of(from, lane)
  if run and has(run, number) then
    remove(run, number)
    run.dirty, run.delta = true, run.delta - 1
    write_runs()
    forget_lane()
    return done(0, math.max(run.began, tonumber(ARGV[6])))
  end
  local held, ended =
    unpack(redis.call('HMGET', runs_key(from), held_field(lane), ended_field(lane)))
  if held and bit_in(held, 1, number) then return mark() end
  local letter = ended and ended_in(ended, number)
  if letter then return cmsgpack.pack(letter) end
end
if not value then
  if tag_of(field) ~= '' or tonumber(n) > m[1] then return cmsgpack.pack('U') end
  if holder(tonumber(n)) then return mark() end
  local waits = redis.call('HEXISTS', base .. 'x:' .. n, '0') == 1
  return cmsgpack.pack(waits and 'U' or 'L')
end
local letter, attempts, created = parse(value)
if letter ~= 'P' then return cmsgpack.pack(letter) end
if redis.call('ZREM', base .. 'lane:' .. lane, member(n, field)) == 0 then return mark() end
forget_lane()
return done(attempts, created)
