-- Sets the generation unless the server has one that is as late.
--
-- KEYS: the generation. ARGV: the new one. Both are 16 bytes, of which the first eight are the logical time; the high half
-- of the seventh is 7 in those that have an order. Returns the generation before.
local before, new = redis.call('GET', KEYS[1]), ARGV[1]
local is_ordered = before and #before == 16 and math.floor(before:byte(7) / 16) == 7
for i = 1, is_ordered and 8 or 0 do
  local one, other = before:byte(i), new:byte(i)
  if one > other or i == 8 and one == other then
    return before
  elseif one < other then
    break
  end
end
redis.call('SET', KEYS[1], new)
return before
