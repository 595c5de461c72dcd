-- Writes documents if all that was expected of them holds.
--
-- ARGV: 2 key of this call; 3 nonce; 4 `c` or `n`: the entry has contents, or names alone; 5 the
-- entry; 6 key of the request, empty: none; 7 its digest; 8 what to remember; 9 for how many ms; 10 entries
-- that the log keeps; 11 class, 12 id and 13 contents of an entry of the audit log, empty: none; 14
-- how many expectations follow, each a name with `a` (absent), `p` (present) or a revision; then
-- documents: name, member of the index, `+` or `-`, contents.
-- Answers {0, revision, ''} done; {1, revision found or 0, name} conflict; {2, revision, reply}
-- repeated; {3, 0, ''} the request id was used for something else.
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'base', 'revision')
if not meta[1] then return emptied() end

-- The same commit, sent again because its answer was lost. The write is for WAIT, which promises
-- no more than what its own connection wrote, and the first copy came over another.
local this = ARGV[2]
local before = redis.call('GET', this)
if before then
  redis.call('PEXPIRE', this, 600000)
  return cmsgpack.pack({0, tonumber(before), ''})
end

local request = ARGV[6] ~= '' and ARGV[6]
if request then
  local stored = redis.call('GET', request)
  if stored then
    local at, known, digest, reply = read_remembered(stored)
    if at > now - tonumber(ARGV[9]) then
      if digest == ARGV[7] then return cmsgpack.pack({2, known, reply}) end
      return cmsgpack.pack({3, 0, ''})
    end
  end
end

local first = 15 + 2 * tonumber(ARGV[14])
for i = 15, first - 1, 2 do
  local document = redis.call('HGET', tag .. 'doc', ARGV[i])
  local found = document and stamp_of(document) or nil
  local expected = ARGV[i + 1]
  local holds = expected == found
  if expected == 'a' then holds = not found elseif expected == 'p' then holds = found end
  if not holds then return cmsgpack.pack({1, tonumber(found or 0), ARGV[i]}) end
end

-- From here on nothing may fail. The entry comes first: Redis itself refuses a revision that is
-- not above the last.
local revision = tonumber(meta[3] or meta[2]) + 1
local printed = whole(revision)
local id = printed .. '-' .. ARGV[3]
redis.call('XADD', tag .. 'changes', 'MAXLEN', ARGV[10], id, ARGV[4], ARGV[5])
redis.call('HSET', KEYS[1], 'revision', printed, 'nonce', ARGV[3])
for i = first, #ARGV, 4 do
  if ARGV[i + 2] == '+' then
    redis.call('HSET', tag .. 'doc', ARGV[i], stamped_text(printed, ARGV[i + 3]))
    redis.call('ZADD', tag .. 'names', 0, ARGV[i + 1])
  else
    redis.call('HDEL', tag .. 'doc', ARGV[i])
    redis.call('ZREM', tag .. 'names', ARGV[i + 1])
  end
end
if ARGV[11] ~= '' then put_audit(ARGV[11], ARGV[12], stamped_text(printed, ARGV[13])) end
if request then
  redis.call('SET', request, remembered_text(now, revision, ARGV[7], ARGV[8]), 'PX', ARGV[9])
end
redis.call('SET', this, printed, 'PX', 600000)
return cmsgpack.pack({0, revision, ''})
