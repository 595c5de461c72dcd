-- Put before each script of the configuration and of the nodes.
-- KEYS[1]: {pgc}:meta, from whose tag the other keys are built. ARGV[1]: how far the store's time
-- is ahead of the server's, in ms.
local tag = string.sub(KEYS[1], 1, -5)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])

-- Whole, where Lua would write a large number with an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

-- Bytes behind a number: a document and its revision; a node's words, and when they were heard.
local function stamped_text(number, bytes) return number .. ':' .. bytes end
local function stamp_of(value) return string.match(value, '^(%d+):') end
-- What a request id was answered.
local function remembered_text(at, revision, digest, reply)
  return cmsgpack.pack({ at, revision, digest, reply })
end
local function read_remembered(stored) return unpack(cmsgpack.unpack(stored)) end

-- Puts an entry into the audit log, in the place of one of its id if that is there.
local function put_audit(class, id, value)
  local before = redis.call('HSTRLEN', tag .. 'audit', id)
  redis.call('HSET', tag .. 'audit', id, value)
  redis.call('ZADD', tag .. 'aids:' .. class, 0, id)
  redis.call('HINCRBY', tag .. 'asize', class, #value - before)
end

local function emptied()
  return redis.error_reply('EMPTIED there is no configuration here any more')
end
