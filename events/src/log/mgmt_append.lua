-- Appends one command if its boundary is at the expected version: one entry, one version, one seq.
-- KEYS: 1 generation, 2 versions (hash), 3 stream. ARGV: 1 generation, 2 boundary, 3 expected version, 4 bytes.
local generation = redis.call('GET', KEYS[1])
if not generation then return {'CLOSED'} end
if generation ~= ARGV[1] then return {'STALE', generation} end
local version = tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or '0')
if version ~= tonumber(ARGV[3]) then return {'CONFLICT', string.format('%d', version)} end
local seq = tonumber(redis.call('HGET', KEYS[2], '#seq') or '0') + 1
local id = string.format('%d', seq)
redis.call('XADD', KEYS[3], '0-' .. id, 'd', ARGV[4])
redis.call('HSET', KEYS[2], ARGV[2], string.format('%d', version + 1), '#seq', id)
return {'OK', id}
