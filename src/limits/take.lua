-- Counts one request against several limits, or against none if one of them refuses it.
--
-- KEYS: the arrival time of each limit. ARGV: for each limit, its interval and its window, in microseconds.
-- Returns the server's time, and the arrival times before the request (0 for none), in microseconds.
-- All numbers are whole and below 2^53, and so exact. The algorithm is that of gcra.rs.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stored = redis.call('MGET', unpack(KEYS))
local answer, after, allowed = { now }, {}, true
for i = 1, #KEYS do
  local interval, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local tat = tonumber(stored[i] or 0) or 0
  answer[i + 1] = tat
  after[i] = math.min(math.max(tat, now), now + window) + interval
  allowed = allowed and after[i] <= now + window
end
if allowed then
  for i = 1, #KEYS do
    -- An arrival time in the past is as good as none.
    local left = math.ceil((after[i] - now) / 1000)
    redis.call('SET', KEYS[i], string.format('%.0f', after[i]), 'PX', left)
  end
end
return answer
