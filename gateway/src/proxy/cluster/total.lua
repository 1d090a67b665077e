-- What machines have used up of one key of a quota: a sum of each. Nothing is counted twice, as sums are told, never
-- additions.
-- KEYS[1]: the count. ARGV: the machine; units that it has used up; the number of the last word of an operator about the
-- count that it knows, or of the one that it brings; 1: it brings one; milliseconds to keep the count; the tag of that word.
-- The reply: units of this machine, units of all others, the number of the last word and its tag.
local node = ARGV[1]
local units = tonumber(ARGV[2])
local known = tonumber(ARGV[3])
local generation = 0
local tag = ''
local own = nil
local others = 0
local rest = ''
local saved = redis.call('GET', KEYS[1])
if saved then
  local number, by = string.match(saved, '^(%d+)%.?(%x*)')
  generation = tonumber(number) or 0
  tag = by or ''
  for name, count in string.gmatch(saved, ' ([^ =]+)=(%d+)') do
    if name == node then
      own = tonumber(count)
    else
      others = others + tonumber(count)
      rest = rest .. ' ' .. name .. '=' .. count
    end
  end
end
if known > generation then
  -- An operator's word: a new one, or one that the store has lost.
  generation = known
  tag = ARGV[6]
  own = units
  others = 0
  rest = ''
elseif ARGV[4] == '1' then
  -- Another word came first. It is answered, and this one comes again under a higher number.
  own = own or 0
elseif known == generation then
  own = math.max(own or 0, units)
  if tag == '' then
    tag = ARGV[6]
  end
elseif known == 0 and own then
  -- The machine has started since: what it knows is as late as what it has told, or later.
  own = math.max(own, units)
else
  -- What it has used up was before an operator's word.
  own = own or 0
end
local text = string.format('%d.%s %s=%.0f', generation, tag, node, own) .. rest
redis.call('SET', KEYS[1], text, 'PX', ARGV[5])
return {own, others, generation, tag}
