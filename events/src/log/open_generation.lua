-- Opens a plane for a generation, unless a higher one is open: whoever was overtaken while seeding changes nothing.
-- KEYS: 1 generation. ARGV: 1 generation.
local open = redis.call('GET', KEYS[1])
if open and tonumber(open) > tonumber(ARGV[1]) then return {'STALE', open} end
redis.call('SET', KEYS[1], ARGV[1])
return {'OK', ARGV[1]}
