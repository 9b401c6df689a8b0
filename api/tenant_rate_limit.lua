-- Rate limit for several tenants with several requests each, over all processes. One atomic step, on Redis's clock.
--
-- Keys:
--   KEYS[1]      <prefix>rate-processes         sorted set: process -> second of its last call
--   KEYS[1 + i]  <prefix>rate:<limit>:<tenant>  string: microsecond at which the bucket of tenant i is full again
--
-- ARGV: 1 the process; then for each tenant requests a minute, requests that a full bucket holds, requests wanted.
--
-- Returns: how many processes called within the last minute; then for each tenant how many requests are granted, and
-- the milliseconds until the next one is possible.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

redis.call('ZADD', KEYS[1], time[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tonumber(time[1]) - 60)
redis.call('EXPIRE', KEYS[1], 120)
local result = {redis.call('ZCARD', KEYS[1])}

for i = 1, #KEYS - 1 do
    local each_us = 60000000 / tonumber(ARGV[3 * i - 1])
    local full_us = tonumber(ARGV[3 * i]) * each_us
    local busy_until = math.max(tonumber(redis.call('GET', KEYS[1 + i]) or 0), now)
    if busy_until > now + full_us then busy_until = now + full_us end  -- the clock was set back
    local room = math.floor((now + full_us - busy_until) / each_us + 1e-6)
    local granted = math.min(room, tonumber(ARGV[3 * i + 1]))
    busy_until = busy_until + granted * each_us
    redis.call('SET', KEYS[1 + i], string.format('%.0f', busy_until), 'PX', math.ceil(full_us / 1000) + 1000)
    result[2 * i] = granted
    result[2 * i + 1] = math.ceil(math.max(busy_until + each_us - full_us - now, 0) / 1000)
end
return result
