-- SPDX-License-Identifier: MIT
-- For wrk: posts the bodies in turn. Arguments: the content type, then the bodies' files.
-- The result is one line of JSON, times in microseconds.

local requests = {}
local turn = 0

function init(args)
  for index = 2, #args do
    local file = assert(io.open(args[index], "rb"))
    local headers = { ["Content-Type"] = args[1] }
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "duration": %d, "mean": %.1f, "p50": %d, "p90": %d, "p99": %d, '
      .. '"max": %d, "not_ok": %d, "broken": %d, "timeouts": %d}\n',
    summary.requests, summary.duration, latency.mean, latency:percentile(50),
    latency:percentile(90), latency:percentile(99), latency.max, errors.status,
    errors.connect + errors.read + errors.write, errors.timeout))
end
