-- Leave to call one deployment, for several calls of one process at a time, and what comes back
-- from earlier leave. One atomic step, on Redis's own clock.
--
-- Keys:
--   KEYS[1]  <prefix>limit:<deployment>  hash, the sliding window and the pace:
--              r<slot>, t<slot>  requests and tokens granted in that slot of half a second
--              rs, ts            their sums over the slots from `head` on
--              head              the oldest slot that still counts
--              born              microsecond at which this window began; another one after a loss
--              rat, tat          microsecond at which the pace of requests, of tokens is even again
--   KEYS[2]  <prefix>slots:<deployment>  sorted set: call in flight -> millisecond at which its lease ends
--   KEYS[3]  <prefix>rest:<deployment>   string, there while the deployment rests; only read here
--
-- ARGV: 1 requests a minute, 2 tokens a minute, 3 concurrency (each 0: no limit), 4 lease in ms,
--       5 requests and 6 tokens that this process was granted and this window does not know of,
--       7 the number of settlements, then of each: call, slot, requests and tokens to add,
--       then of each wanted call: call, tokens.
--
-- Gives: how many of the wanted calls are granted (the first ones), in which slot, for the first
--        that is not the milliseconds until it might be, and why; and the window's `born`.
--
-- What is granted in any 61 s stays within the limit: the current slot and the 122 before it are
-- counted, which is a little more. So no 60 s at the provider hold more, as long as the time from
-- the grant to the arrival there differs by less than a second between two calls. The pace spreads
-- the grants over that period, so that a full window also means a steady flow.

local SLOT_US = 500000
local SLOTS_BEFORE = 122
local PERIOD_US = 61500000
local SLACK_US = 1000000  -- how far a burst may run ahead of the pace

local rpm, tpm, concurrency = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local lease_ms, carried_r, carried_t = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now / 1000)

local state = redis.call('HMGET', KEYS[1], 'rs', 'ts', 'head', 'rat', 'tat', 'born')
local rs, ts = tonumber(state[1] or 0), tonumber(state[2] or 0)
local head = tonumber(state[3] or 0)
local rat, tat = tonumber(state[4] or 0), tonumber(state[5] or 0)
local has_window = rpm > 0 or tpm > 0
local born = has_window and (state[6] or string.format('%.0f', now)) or ''
local slot = math.max(math.floor(now / SLOT_US), head)  -- a clock that was set back must not forget
local oldest = slot - SLOTS_BEFORE
local r_us = rpm > 0 and PERIOD_US / rpm or 0
local t_us = tpm > 0 and PERIOD_US / tpm or 0

-- What has left the window.
if head < oldest then
  if rs + ts > 0 and oldest - head <= SLOTS_BEFORE + 1 then
    for each = head, oldest - 1 do
      local gone = redis.call('HMGET', KEYS[1], 'r' .. each, 't' .. each)
      rs, ts = rs - tonumber(gone[1] or 0), ts - tonumber(gone[2] or 0)
      redis.call('HDEL', KEYS[1], 'r' .. each, 't' .. each)
    end
  else
    redis.call('DEL', KEYS[1])
    rs, ts = 0, 0
  end
  head = oldest
end

local function count(at, requests, tokens)
  if requests ~= 0 then redis.call('HINCRBY', KEYS[1], 'r' .. at, requests) end
  if tokens ~= 0 then redis.call('HINCRBY', KEYS[1], 't' .. at, tokens) end
  rs, ts = rs + requests, ts + tokens
end

local function correct(at, requests, tokens)
  if not has_window or at < head then return end  -- out of the window by now: it does not matter any more
  count(at, requests, tokens)
  rat, tat = rat + requests * r_us, tat + tokens * t_us
end

-- What comes back.
local next_arg = 8
for _ = 1, tonumber(ARGV[7]) do
  if concurrency > 0 then redis.call('ZREM', KEYS[2], ARGV[next_arg]) end
  correct(tonumber(ARGV[next_arg + 1]), tonumber(ARGV[next_arg + 2]), tonumber(ARGV[next_arg + 3]))
  next_arg = next_arg + 4
end
correct(slot, carried_r, carried_t)

local in_flight = 0
if concurrency > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
  in_flight = redis.call('ZCARD', KEYS[2])
end

-- Microseconds until the window has room for `need` more of the kind, given its sum and limit.
local function room_in(kind, sum, limit, need)
  for each = head, slot do
    if sum + need <= limit then return math.max((each + SLOTS_BEFORE) * SLOT_US - now, 0) end
    sum = sum - tonumber(redis.call('HGET', KEYS[1], kind .. each) or 0)
  end
  return math.max((slot + 1 + SLOTS_BEFORE) * SLOT_US - now, 0)
end

-- What is wanted.
local granted, wait_us, why = 0, 0, ''
local new_r, new_t = 0, 0
local resting_ms = redis.call('PTTL', KEYS[3])
rat, tat = math.max(rat, now), math.max(tat, now)
while next_arg < #ARGV do
  local tokens = tonumber(ARGV[next_arg + 1])
  if tpm > 0 then tokens = math.min(tokens, tpm) end  -- more than a minute's worth goes alone
  if resting_ms > 0 then
    wait_us, why = resting_ms * 1000, 'rest'
  elseif concurrency > 0 and in_flight >= concurrency then
    wait_us, why = 50000, 'concurrency'
  elseif rpm > 0 and rs + new_r + 1 > rpm then
    wait_us, why = room_in('r', rs + new_r, rpm, 1), 'requests'
  elseif rpm > 0 and rat - now > math.max(SLACK_US - r_us, 0) then
    wait_us, why = rat - now - math.max(SLACK_US - r_us, 0), 'requests'
  elseif tpm > 0 and ts + new_t + tokens > tpm then
    wait_us, why = room_in('t', ts + new_t, tpm, tokens), 'tokens'
  elseif tpm > 0 and tat - now > SLACK_US then
    wait_us, why = tat - now - SLACK_US, 'tokens'
  end
  if why ~= '' then break end
  if concurrency > 0 then
    redis.call('ZADD', KEYS[2], now_ms + lease_ms, ARGV[next_arg])
    in_flight = in_flight + 1
  end
  granted, new_r, new_t = granted + 1, new_r + 1, new_t + tokens
  rat, tat = rat + r_us, tat + tokens * t_us
  next_arg = next_arg + 2
end

if has_window then
  count(slot, new_r, new_t)
  redis.call('HSET', KEYS[1], 'rs', rs, 'ts', ts, 'head', head, 'born', born,
             'rat', string.format('%.0f', rat), 'tat', string.format('%.0f', tat))
  redis.call('PEXPIRE', KEYS[1], 180000)
end
if concurrency > 0 then redis.call('PEXPIRE', KEYS[2], lease_ms + 60000) end
return {granted, slot, math.ceil(wait_us / 1000), why, born}
