-- How the deployments are, as all workers see it. One atomic step, on Redis's own clock.
--
-- Keys:
--   <prefix>health:<deployment>  hash:
--     calls, failed, slow  sums that halve every ARGV half-life
--     in_a_row             failures of the connection or the server since the last call that went well
--     at                   millisecond at which they were last brought up to date
--     baseline             milliseconds within which 19 of 20 calls usually are through
--     until                millisecond at which an open breaker lets a probe through; 0: closed
--     streak               how often it has opened without closing
--     version              raised by every move
--   <prefix>probe:<deployment>   string, there while a probe is under way: the worker that has it
--   <prefix>rest:<deployment>    string, there while the deployment rests
--   <prefix>workers              sorted set: worker -> millisecond at which it was last heard of
--
-- tell: KEYS health and probe of each deployment, then each rest, then workers.
--       ARGV 'tell', half-life in ms, weight of a new baseline, worker, number of deployments,
--       then of each: calls, failed and slow since the last time, failed in a row at their end, a p95 in ms or ''.
--       Gives {workers, {of each deployment: calls, failed, slow, in_a_row, baseline, ms to `until` (-1: closed),
--       streak, version, ms left of the probe (0: none)}, {ms left of each rest}}, numbers as strings.
-- move: KEYS health, probe. ARGV 'move', the version it starts from, ms until a probe (-1: close), streak,
--       factor for the baseline. Gives 1, or 0 where another was first.
-- leave: KEYS probe. ARGV 'leave', worker. Frees the probe if it is that worker's. Gives 1.
-- rest: KEYS rest. ARGV 'rest', ms. Only ever lengthens. Gives 1.

local WORKER_GONE_MS = 10000
local FORGET_MS = 86400000

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function left(key)
  return math.max(redis.call('PTTL', key), 0)
end

local function tell()
  local half_life, weight, worker, count = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
  local deployments, rests = {}, {}
  for each = 1, count do
    local key, arg = KEYS[2 * each - 1], 6 + 5 * (each - 1)
    local new_calls, new_failed, sample = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 4])
    local had = redis.call('HMGET', key, 'calls', 'failed', 'slow', 'at', 'baseline', 'until', 'streak', 'version',
                           'in_a_row')
    local fade = 0.5 ^ (math.max(now - tonumber(had[4] or now), 0) / half_life)
    local calls = tonumber(had[1] or 0) * fade + new_calls
    local failed = tonumber(had[2] or 0) * fade + new_failed
    local slow = tonumber(had[3] or 0) * fade + tonumber(ARGV[arg + 2])
    local in_a_row = tonumber(ARGV[arg + 3]) + (new_calls == new_failed and tonumber(had[9] or 0) or 0)
    local baseline = tonumber(had[5] or 0)
    if sample then baseline = baseline > 0 and baseline + weight * (sample - baseline) or sample end
    if new_calls > 0 or sample then
      redis.call('HSET', key, 'calls', tostring(calls), 'failed', tostring(failed), 'slow', tostring(slow),
                 'in_a_row', in_a_row, 'at', now, 'baseline', tostring(baseline))
      redis.call('PEXPIRE', key, FORGET_MS)
    end
    local open = tonumber(had[6] or 0)
    deployments[each] = {
      tostring(calls), tostring(failed), tostring(slow), tostring(in_a_row), tostring(baseline),
      open > 0 and tostring(math.max(open - now, 0)) or '-1', had[7] or '0', had[8] or '0',
      tostring(left(KEYS[2 * each])),
    }
  end
  for each = 2 * count + 1, #KEYS - 1 do rests[#rests + 1] = tostring(left(KEYS[each])) end
  local workers = KEYS[#KEYS]
  redis.call('ZADD', workers, now, worker)
  redis.call('ZREMRANGEBYSCORE', workers, '-inf', now - WORKER_GONE_MS)
  return {tostring(redis.call('ZCARD', workers)), deployments, rests}
end

local function move()
  local version, open_ms = ARGV[2], tonumber(ARGV[3])
  local had = redis.call('HMGET', KEYS[1], 'version', 'baseline')
  if (had[1] or '0') ~= version then return 0 end
  redis.call('HSET', KEYS[1], 'calls', 0, 'failed', 0, 'slow', 0, 'in_a_row', 0, 'at', now,
             'until', open_ms >= 0 and now + open_ms or 0, 'streak', ARGV[4], 'version', version + 1,
             'baseline', tostring(tonumber(had[2] or 0) * tonumber(ARGV[5])))
  redis.call('PEXPIRE', KEYS[1], FORGET_MS)
  redis.call('DEL', KEYS[2])
  return 1
end

if ARGV[1] == 'tell' then return tell() end
if ARGV[1] == 'move' then return move() end
if ARGV[1] == 'leave' then
  if redis.call('GET', KEYS[1]) == ARGV[2] then redis.call('DEL', KEYS[1]) end
  return 1
end
if left(KEYS[1]) < tonumber(ARGV[2]) then redis.call('SET', KEYS[1], 1, 'PX', ARGV[2]) end
return 1
