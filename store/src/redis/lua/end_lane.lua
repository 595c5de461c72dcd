-- Ends waiting deliveries of a lane. ARGV: 5 the lane, 6 the letter, 7 why, 8 only those created
-- before (ms; 0: all), 9 how many, 10 how many members to pass over, 11 how many to look at, 12 how
-- many of records, 13 how many runs.
-- Answers [how many of runs ended, how many of records, how many members were looked at and stay,
-- whether that was the last of them].
local m = marks('dk', 'trim')
if not m then return EPOCH end
local lane, left, offset = ARGV[5], tonumber(ARGV[9]), tonumber(ARGV[10])
local before, look = tonumber(ARGV[8]), tonumber(ARGV[11])
local letter, code, records, runs = ARGV[6], ARGV[7], tonumber(ARGV[12]), tonumber(ARGV[13])
local key = base .. 'lane:' .. lane
local members = redis.call('ZRANGE', key, offset, offset + look - 1)
local tenant = redis.call('HGET', base .. 'own', lane) or ''
local ended, stay, last, of_runs = {}, 0, #members < look, 0

-- Those of a run whose events were accepted before. Accept times rise with numbers.
local function accepted_before(run, from)
  local numbers = numbers_of(run, from)
  local function old(n) return created_of(text(n), 0) < before end
  if old(numbers[#numbers]) then return run end
  local low, high = 1, #numbers
  while low < high do
    local middle = math.floor((low + high) / 2)
    if old(numbers[middle]) then low = middle + 1 else high = middle end
  end
  return below_of(run, from, numbers[low])
end
-- Ends the deliveries of a run that are to, and no more than so many; says how many that was, and
-- whether more of them are to.
local function end_run(run, from, most)
  local w = before > 0 and accepted_before(run, from) or run
  local many = ones(w)
  local more = many > most
  if more then w, many = first_ones(w, most), most end
  if many == 0 then return 0, more end
  local name, piece = ended_field(lane), ended_text(w, letter, tonumber(code), now, run.began)
  local before_it = redis.call('HGET', runs_key(from), name) or ''
  redis.call('HSET', runs_key(from), name, before_it .. piece)
  tell_run(from, lane, tenant, letter, run.began, code, bits_text(w))
  if letter == 'F' then
    redis.call('ZADD', base .. 'fr:' .. lane, text(from), text(from))
    redis.call('HSETNX', base .. 'own', lane, tenant)
  end
  look_anew(from, w, m[2])
  count(tenant, ENDS[letter], many)
  pend(from, -many)
  remove_all(run, w)
  run.dirty, run.delta = true, run.delta - many
  return many, more
end

for _, name in ipairs(members) do
  local from = parse_run(name)
  if from then
    if left == 0 or runs == 0 then
      last = false
      break
    end
    runs = runs - 1
    local run = wait_of(from, lane)
    if not run then
      ended[#ended + 1] = name
    elseif before > 0 and run.began >= before then
      stay = stay + 1
    else
      local many, more = end_run(run, from, left)
      left, of_runs = left - many, of_runs + many
      if more then
        last = false
        break
      end
      if not empty(run) then stay = stay + 1 end
    end
  else
    if left == 0 or records == 0 then
      last = false
      break
    end
    local n, field = parse_member(name, lane)
    local value = redis.call('HGET', base .. 'x:' .. n, field)
    local _, attempts, created = parse(value or '')
    if created and (before == 0 or created < before) then
      left, records = left - 1, records - 1
      ended[#ended + 1] = name
      finish(n, field, tenant, letter, attempts, created, code)
      tell(n, field, tenant, letter, attempts, created, code)
    else
      stay = stay + 1
    end
  end
end
if #ended > 0 then redis.call('ZREM', key, unpack(ended)) end
write_runs()
if redis.call('EXISTS', key) == 0 then redis.call('ZREM', base .. 'lanes', lane) end
write_ends(m[1])
write_counts()
return cmsgpack.pack({ of_runs, tonumber(ARGV[12]) - records, stay, last })
