-- Slices of rate limits, for one process: it states what it holds and says how much more it wants. Totals make lost and
-- repeated messages harmless; a message that was overtaken by a later one changes nothing.
-- KEYS: one a counter. ARGV: 1 process, 2 seq, then six a counter: kind, limit, span (us), held, want, start (us).
-- Answers the clock (us), then three a counter: start, granted, left.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local process, seq = ARGV[1], tonumber(ARGV[2])
local answers = { now }

local function text(number) return string.format('%.0f', number) end

local function grant(want, room)
  if room < 0 then room = 0 end
  if want < room then return want end
  return room
end

-- A window of `span`, on this clock: hash of `s` its start, `u` what all hold, and what each process holds.
local function window(key, limit, span, held, want, start)
  local current = now - now % span
  local used, mine, last = 0, 0, -1
  local stored = redis.call('HMGET', key, 's', 'u', process)
  local kept = stored[1] and tonumber(stored[1])
  -- The clock may have gone back a little: the window goes on.
  if kept and kept > current and kept - current <= span then current = kept end
  if kept == current then
    used = tonumber(stored[2])
    if stored[3] then
      local total, at = string.match(stored[3], '^(%d+):(%d+)$')
      mine, last = tonumber(total), tonumber(at)
    end
  else
    redis.call('DEL', key)
  end
  if start ~= current then held = 0 end
  local granted = 0
  if last < seq then
    local others = used - mine
    granted = grant(want, limit - others - held)
    used = others + held + granted
    redis.call('HSET', key, 's', text(current), 'u', text(used), process, text(held + granted) .. ':' .. text(seq))
    redis.call('PEXPIRE', key, text(math.ceil(span / 500)))
  end
  return current, granted, grant(limit, limit - used)
end

-- GCRA: the key holds when the bucket is empty again. A slice is a stretch of that time; what is not used drains.
local function bucket(key, limit, span, want)
  local empty = tonumber(redis.call('GET', key) or '0')
  if empty < now then empty = now end
  local room = math.floor((now + limit * span - empty) / span)
  local granted = grant(want, room)
  if granted > 0 then
    local filled = empty + granted * span
    redis.call('SET', key, text(filled), 'PX', text(math.ceil((filled - now) / 1000) + 1))
  end
  return empty, granted, grant(limit, room - granted)
end

-- Slots: what each process holds, until when. A process that does not renew loses them.
local function slots(key, limit, span, held, want)
  local others, last = 0, -1
  local stored = redis.call('HGETALL', key)
  for i = 1, #stored, 2 do
    local count, at, ends = string.match(stored[i + 1], '^(%d+):(%d+):(%d+)$')
    if tonumber(ends) <= now then
      redis.call('HDEL', key, stored[i])
    elseif stored[i] == process then
      last = tonumber(at)
    else
      others = others + tonumber(count)
    end
  end
  if last >= seq then return 0, 0, 0 end
  local granted = grant(want, limit - others - held)
  if held + granted > 0 then
    redis.call('HSET', key, process, text(held + granted) .. ':' .. text(seq) .. ':' .. text(now + span))
    redis.call('PEXPIRE', key, text(math.ceil(span / 1000) * 2))
  else
    redis.call('HDEL', key, process)
  end
  return 0, granted, grant(limit, limit - others - held - granted)
end

for i, key in ipairs(KEYS) do
  local at = 3 + (i - 1) * 6
  local kind, limit, span = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local held, want, start = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local first, granted, left
  if kind == 'window' then
    first, granted, left = window(key, limit, span, held, want, start)
  elseif kind == 'bucket' then
    first, granted, left = bucket(key, limit, span, want)
  else
    first, granted, left = slots(key, limit, span, held, want)
  end
  answers[#answers + 1] = first
  answers[#answers + 1] = granted
  answers[#answers + 1] = left
end
return answers
