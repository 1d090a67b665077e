-- What machines have used up of one key of a quota: a sum of each. Nothing is counted twice, as sums are told, never
-- additions.
-- KEYS[1]: the count. ARGV: the machine; units that it has used up; how often operators have set the count, as far as the
-- machine knows; 1: an operator sets it now; milliseconds to keep it.
-- The reply: units of this machine, units of all others, how often operators have set it.
local node = ARGV[1]
local units = tonumber(ARGV[2])
local known = tonumber(ARGV[3])
local generation = 0
local own = nil
local others = 0
local rest = ''
local saved = redis.call('GET', KEYS[1])
if saved then
  generation = tonumber(string.match(saved, '^%d+')) or 0
  for name, count in string.gmatch(saved, ' ([^ =]+)=(%d+)') do
    if name == node then
      own = tonumber(count)
    else
      others = others + tonumber(count)
      rest = rest .. ' ' .. name .. '=' .. count
    end
  end
end
if ARGV[4] == '1' or known > generation then
  -- An operator's word; in the second case the store has lost it.
  if ARGV[4] == '1' then
    generation = math.max(generation, known) + 1
  else
    generation = known
  end
  own = units
  others = 0
  rest = ''
elseif known == generation then
  own = math.max(own or 0, units)
elseif known == 0 and own then
  -- The machine has started since: what it knows is as late as what it has told, or later.
  own = math.max(own, units)
else
  -- What it has used up was before an operator's word.
  own = own or 0
end
local text = string.format('%d %s=%.0f', generation, node, own) .. rest
redis.call('SET', KEYS[1], text, 'PX', ARGV[5])
return {own, others, generation}
