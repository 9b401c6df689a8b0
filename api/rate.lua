-- A tenant's requests, several of one process at a time, over all processes. One atomic step, on Redis's own clock.
--
-- Keys:
--   KEYS[1]  <prefix>rate:<limit>:<tenant>  string: microsecond at which the tenant's bucket is full again
--   KEYS[2]  <prefix>rate-processes         sorted set: process -> second at which it asked last
--
-- ARGV: 1 requests a minute, 2 requests that a full bucket holds, 3 requests wanted, 4 the process.
--
-- Gives: how many are granted, the milliseconds after which there is room for the next, and how many
-- processes asked within the last minute.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local each_us = 60000000 / tonumber(ARGV[1])
local full_us = tonumber(ARGV[2]) * each_us

local busy_until = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
if busy_until > now + full_us then busy_until = now + full_us end  -- the clock was set back
local room = math.floor((now + full_us - busy_until) / each_us + 1e-6)
local granted = math.min(room, tonumber(ARGV[3]))
busy_until = busy_until + granted * each_us
redis.call('SET', KEYS[1], string.format('%.0f', busy_until), 'PX', math.ceil(full_us / 1000) + 1000)

redis.call('ZADD', KEYS[2], time[1], ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', tonumber(time[1]) - 60)
redis.call('EXPIRE', KEYS[2], 120)
local wait_us = math.max(busy_until + each_us - full_us - now, 0)
return {granted, math.ceil(wait_us / 1000), redis.call('ZCARD', KEYS[2])}
