"""What Redis does in one step: settle what calls have used, and grant the limits of new ones, all or nothing each.

KEYS[1] is the prefix of all keys here; ARGV[1] and the answer are MessagePack. Times are in milliseconds of the
gateways' own steady clock, the furthest of which all go by: Redis's own may be set. A key outlives what it counts by two
hours, since Redis forgets by its wall clock. A check of less than nothing only looks: it never fits, and is told what is held.

    PREFIX clock                what time it is
    PREFIX workers              sorted set: when each gateway process is held to be gone
    PREFIX seq:WORKER           the last settlement of this process that was done, so that none is done twice
    PREFIX held:WORKER          hash: what this process holds of each level and purse, so that it can be freed
    PREFIX NAME, of a window    hash: u used; pieces lo to hi, each with t, its last time, and a, its amount;
                                f, the first time of the newest piece
    PREFIX NAME, of a level     hash: h held
    PREFIX NAME, of a purse     hash: s spent, h held, b when it was filled from the record store
"""

SCRIPT = """
local prefix = KEYS[1]
local asked = cmsgpack.unpack(ARGV[1])
local now, worker, lease, seq = asked[1], asked[2], asked[3], asked[4]
local settlements, presence, holdings, calls = asked[5], asked[6], asked[7], asked[8]
local HOUR = 3600000

local clock = tonumber(redis.call('GET', prefix .. 'clock') or '0')
if presence == 'join' then
  -- Who comes takes the time of those who are there: its own may be of a wall clock that was wrong.
  local others = redis.call('ZRANGEBYSCORE', prefix .. 'workers', clock, '+inf')
  for _, other in ipairs(others) do
    if other ~= worker then now = clock end
  end
end
if clock > now then now = clock else redis.call('SET', prefix .. 'clock', now) end

local function release(held, name, amount)
  local has = tonumber(redis.call('HGET', held, name) or '0')
  amount = math.min(has, amount)
  if amount > 0 then
    if has == amount then redis.call('HDEL', held, name) else redis.call('HINCRBY', held, name, -amount) end
    if redis.call('HEXISTS', prefix .. name, 'h') == 1 then redis.call('HINCRBY', prefix .. name, 'h', -amount) end
  end
end

local function free(one)
  local held = prefix .. 'held:' .. one
  local all = redis.call('HGETALL', held)
  for i = 1, #all, 2 do
    if redis.call('HEXISTS', prefix .. all[i], 'h') == 1 then
      redis.call('HINCRBY', prefix .. all[i], 'h', -tonumber(all[i + 1]))
    end
  end
  redis.call('DEL', held)
  redis.call('ZREM', prefix .. 'workers', one)
end

local function roll(key, span)
  local v = redis.call('HMGET', key, 'u', 'lo', 'hi', 'f')
  local used, lo, hi = tonumber(v[1] or 0), tonumber(v[2] or 1), tonumber(v[3] or 0)
  local before = lo
  while lo <= hi do
    local piece = redis.call('HMGET', key, 't' .. lo, 'a' .. lo)
    if tonumber(piece[1]) + span > now then break end
    used = used - tonumber(piece[2])
    redis.call('HDEL', key, 't' .. lo, 'a' .. lo)
    lo = lo + 1
  end
  if lo > before then redis.call('HSET', key, 'u', used, 'lo', lo) end
  return used, lo, hi, tonumber(v[4] or 0)
end

local function add(key, amount, span, width, used, lo, hi, first)
  if hi >= lo and now - first < width then
    redis.call('HINCRBY', key, 'a' .. hi, amount)
    redis.call('HSET', key, 't' .. hi, now, 'u', used + amount)
  else
    hi = hi + 1
    redis.call('HSET', key, 't' .. hi, now, 'a' .. hi, amount, 'u', used + amount, 'lo', lo, 'hi', hi, 'f', now)
    redis.call('PEXPIRE', key, span + 2 * HOUR)
  end
  return hi
end

local function until_it_fits(key, over, lo, hi, span)
  while lo <= hi do
    local piece = redis.call('HMGET', key, 't' .. lo, 'a' .. lo)
    over = over - tonumber(piece[2])
    if over <= 0 then return tonumber(piece[1]) + span - now end
    lo = lo + 1
  end
  return -1
end

local mine = prefix .. 'held:' .. worker
if #settlements > 0 then
  local done = tonumber(redis.call('GET', prefix .. 'seq:' .. worker) or '0')
  if seq > done then
    redis.call('SET', prefix .. 'seq:' .. worker, seq, 'PX', 48 * HOUR)
    for _, one in ipairs(settlements) do
      local kind, name, key = one[1], one[2], prefix .. one[2]
      if kind == 'adjust' then
        if redis.call('HEXISTS', key, 'a' .. one[3]) == 1 then
          redis.call('HINCRBY', key, 'a' .. one[3], one[4])
          redis.call('HINCRBY', key, 'u', one[4])
        end
      elseif kind == 'release' then
        release(mine, name, one[3])
      elseif kind == 'spend' then
        -- What was spent before the purse was filled from the record store is in there.
        local filled = redis.call('HGET', key, 'b')
        if filled and one[4] >= tonumber(filled) - 2000 then redis.call('HINCRBY', key, 's', one[3]) end
      elseif kind == 'note' then
        local used, lo, hi, first = roll(key, one[4])
        add(key, one[3], one[4], one[5], used, lo, hi, first)
      else -- know
        local spent = redis.call('HGET', key, 's')
        if not spent or tonumber(spent) < one[3] then redis.call('HSET', key, 's', one[3]) end
        redis.call('HSETNX', key, 'b', now)
        redis.call('PEXPIRE', key, one[4])
      end
    end
  end
end

local joined = 0
if presence == 'leave' then
  free(worker)
  redis.call('DEL', prefix .. 'seq:' .. worker)
elseif presence ~= '' then
  local new = redis.call('ZSCORE', prefix .. 'workers', worker) == false
  redis.call('ZADD', prefix .. 'workers', now + lease, worker)
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'workers', '-inf', now)) do free(gone) end
  if presence == 'join' then
    free(worker)
    redis.call('ZADD', prefix .. 'workers', now + lease, worker)
    for name, amount in pairs(holdings) do
      redis.call('HINCRBY', prefix .. name, 'h', amount)
      redis.call('PEXPIRE', prefix .. name, 48 * HOUR)
      redis.call('HSET', mine, name, amount)
    end
  elseif new then
    joined = 1 -- it was held to be gone, or Redis has forgotten: it is to join again
  end
end

if presence == 'join' or presence == 'beat' then redis.call('PEXPIRE', mine, 48 * HOUR) end

local answers = {}
for c, checks in ipairs(calls) do
  local answer, states, fits = {1}, {}, true
  for i, check in ipairs(checks) do
    local kind, key, most, amount, span = check[1], prefix .. check[2], check[3], check[4], check[5]
    if kind == 'window' then
      local used, lo, hi, first = roll(key, span)
      states[i] = {used, lo, hi, first}
      local wait = 0
      if used + amount > most then
        fits = false
        wait = -1
        if amount <= most then wait = until_it_fits(key, used + amount - most, lo, hi, span) end
      end
      answer[2 * i], answer[2 * i + 1] = used, wait
      if most < 0 then answer[2 * i + 1] = 0 end
    elseif kind == 'level' then
      local held = tonumber(redis.call('HGET', key, 'h') or '0')
      local wait = 0
      if held + amount > most then
        fits = false
        wait = amount <= most and 1000 or -1
      end
      answer[2 * i], answer[2 * i + 1] = held, wait
      if most < 0 then answer[2 * i + 1] = held end
    else
      local v = redis.call('HMGET', key, 's', 'h', 'b')
      if not v[3] then
        answer = {2, i}
        fits = false
        break
      end
      local spent, held = tonumber(v[1] or 0), tonumber(v[2] or 0)
      local wait = 0
      if spent + held >= most then
        fits = false
        wait = spent < most and 1000 or math.max(1, span - now)
      end
      answer[2 * i], answer[2 * i + 1] = spent + held, wait
      if most < 0 then answer[2 * i + 1] = held end
    end
  end
  if fits then
    for i, check in ipairs(checks) do
      local kind, name, amount = check[1], check[2], check[4]
      local key = prefix .. name
      if kind == 'window' then
        local s = states[i]
        answer[2 * i] = s[1] + amount
        answer[2 * i + 1] = add(key, amount, check[5], check[6], s[1], s[2], s[3], s[4])
      else
        redis.call('HINCRBY', mine, name, amount)
        local held = redis.call('HINCRBY', key, 'h', amount)
        if kind == 'level' then
          answer[2 * i] = held
          redis.call('PEXPIRE', key, 48 * HOUR)
        else
          answer[2 * i] = answer[2 * i] + amount
          answer[2 * i + 1] = answer[2 * i] - held -- what is spent
        end
      end
    end
  elseif answer[1] == 1 then
    answer[1] = 0
  end
  answers[c] = answer
end
return cmsgpack.pack({now, joined, answers})
"""
