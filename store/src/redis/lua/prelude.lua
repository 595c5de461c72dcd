-- What every script of a partition begins with.
--
-- KEYS[1] is the partition's marks ("{tag}:m"); all other keys have the same tag. ARGV: how far
-- the store's time is ahead of the server's, in ms; the partition's epoch; the operation's field
-- and sequence ('' and 0: the step is the same when it is repeated); then what is the script's own.
local base = string.sub(KEYS[1], 1, -2)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[1]

local format = string.format
local function text(number) return format('%.0f', number) end

-- The partition's marks by name; 0 for one that was never set. Nothing, if the epoch is another.
local function marks(...)
  local found = redis.call('HMGET', KEYS[1], 'epoch', ...)
  if found[1] ~= ARGV[2] then return nil end
  for i = 2, #found do found[i - 1] = tonumber(found[i] or '0') end
  return found
end
-- What is behind the epoch of a partition that may have runs: no text has this byte.
local KNOWS_RUNS = '\255'
local EPOCH = { err = 'EPOCH the partition began another life' }

-- An event's id, or a stream's: a number and a moment, both as texts.
local function id_of(n, ms) return n .. '-' .. ms end
local function parse_id(id) return string.match(id, '^(%d+)-(%d+)$') end

-- What a call was answered: "sequence moment answer". Read, the answer is where it begins.
local function answered_text(sequence, at, packed) return sequence .. ' ' .. at .. ' ' .. packed end
local function read_answered(stored)
  local sequence, at, rest = string.match(stored, '^(%d+) (%d+) ()')
  return tonumber(sequence), tonumber(at), rest
end

-- What this very call was answered before; an error, if a later one ran.
local function answered()
  if ARGV[3] == '' then return nil end
  local stored = redis.call('HGET', base .. 'op', ARGV[3])
  if not stored then return nil end
  local known, _, rest = read_answered(stored)
  local asked = tonumber(ARGV[4])
  if known == asked then
    -- Written once more, so that what waits for replicas or the disk behind it has a write to
    -- wait for.
    redis.call('HSET', base .. 'op', ARGV[3], stored)
    return string.sub(stored, rest)
  end
  if known > asked then return { err = 'STALE a later call of this kind was carried out' } end
  return nil
end

-- Answers, and remembers the answer for a copy of this call.
local function answer(value)
  local packed = cmsgpack.pack(value)
  if ARGV[3] ~= '' then
    redis.call('HSET', base .. 'op', ARGV[3], answered_text(ARGV[4], text(now), packed))
  end
  return packed
end

local function ring()
  if redis.call('EXISTS', base .. 'bell') == 0 then redis.call('RPUSH', base .. 'bell', '1') end
end
