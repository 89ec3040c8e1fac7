-- Appends 1 to 256 consecutive events of one gateway as one entry: all or nothing, no hole, nothing twice.
-- KEYS: 1 generation, 2 owner (hash), 3 stream.
-- ARGV: 1 generation, 2 gateway, 3 epoch, 4 nonce, 5 first, 6 last, 7 base, 8 bytes.
local generation = redis.call('GET', KEYS[1])
if not generation then return {'CLOSED'} end
if generation ~= ARGV[1] then return {'STALE', generation} end
local epoch, first, last, base = tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local owner = redis.call('HGET', KEYS[2], ARGV[2])
if owner then
  local held, nonce = string.match(owner, '^(%d+):(.*)$')
  held = tonumber(held)
  if epoch < held or (epoch == held and nonce ~= '' and nonce ~= ARGV[4]) then return {'FENCED', owner} end
end
-- The top must be the last id ever given, not the last entry kept: a trimmed stream is not an empty one.
local top = 0
if redis.call('EXISTS', KEYS[3]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[3])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then top = tonumber(string.match(info[i + 1], '%-(%d+)$')) end
  end
end
if base > top then top = base end
if last <= top then return {'DUPLICATE', string.format('%d', top)} end
if first ~= top + 1 then return {'GAP', string.format('%d', top)} end
local id = string.format('%d', last)
redis.call('XADD', KEYS[3], '0-' .. id, 'f', ARGV[5], 'd', ARGV[8])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ':' .. ARGV[4])
return {'OK', id}
