-- Hands out slots of rates; `rate::lease` in Rust does the same.
--
-- ARGV: 5 how far ahead of their time, in µs; then for each rate its name, the µs from one slot to
-- the next, its burst, and how many are wanted.
-- Answers for each [how many, µs to the first, µs for which it is no use to ask again].
if not marks() then return EPOCH end
local micros = (clock[1] + 0) * 1000000 + clock[2] + ARGV[1] * 1000
local ahead = tonumber(ARGV[5])
local answers = {}
for i = 6, #ARGV, 4 do
  local key = base .. 'rate:' .. ARGV[i]
  local each, burst, want = ARGV[i + 1] + 0, ARGV[i + 2] + 0, ARGV[i + 3] + 0
  local known = tonumber(redis.call('GET', key) or '0')
  -- What lapsed is gone. Nothing is further ahead than this, unless the rate was lower or the
  -- clock is set back; that is written down, or it would move on with the time.
  local next = math.min(math.max(known, micros - (burst - 1) * each), micros + ahead + each)
  local free = math.max(0, math.floor((micros + ahead - next) / each) + 1)
  local slots = math.min(want, math.ceil(free / 2))
  local after = next + slots * each
  if slots > 0 or next < known then
    local matters = math.max(0, after - micros) + burst * each
    redis.call('SET', key, format('%.3f', after), 'PX', text(math.ceil(matters / 1000) + 60000))
  end
  local again = free > slots and 0 or math.max(0, after - ahead - micros)
  answers[#answers + 1] = { slots, math.ceil(next - micros), math.ceil(again) }
end
return cmsgpack.pack(answers)
