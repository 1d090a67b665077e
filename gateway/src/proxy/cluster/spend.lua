-- One budget that machines share: GCRA as in gateway-common (`Pace`), by the server's clock, in microseconds.
-- KEYS[1]: the budget. ARGV: microseconds that one unit costs; units of the burst; units that were spent already; units
-- wanted; units to tell the time of if there are none; units that may be owed besides the burst.
-- The reply: units granted, microseconds to wait, units left.
local cost = tonumber(ARGV[1])
local burst = tonumber(ARGV[2])
local charge = tonumber(ARGV[3])
local want = tonumber(ARGV[4])
local least = tonumber(ARGV[5])
local debt = tonumber(ARGV[6])
local time = redis.call('TIME')
-- Microseconds since a late epoch, so that fractions of them fit a double.
local now = (tonumber(time[1]) - 1700000000) * 1000000 + tonumber(time[2])
local owed = 0
local saved = redis.call('GET', KEYS[1])
if saved then
  local arrival, before = string.match(saved, '^(%S+) (%S+)$')
  arrival = tonumber(arrival)
  before = tonumber(before)
  if arrival and before and before > 0 and arrival > now then
    -- In units: a rate that has changed since counts them anew. More than can be owed is a clock that was set back.
    owed = math.min((arrival - now) / before, burst + debt)
  end
end
owed = owed + charge
-- What a double loses is not to cost a unit.
local free = math.max(0, math.floor(burst - owed + 0.000001))
local granted = math.min(want, free)
owed = owed + granted
if charge > 0 or granted > 0 then
  local full = owed * cost
  redis.call('SET', KEYS[1], string.format('%.3f %.9f', now + full, cost), 'PX', math.ceil(full / 1000) + 1000)
end
local wait = 0
if granted == 0 then
  wait = math.max(1, math.ceil((owed + math.min(least, burst) - burst) * cost))
end
return {granted, wait, free - granted}
