-- SPDX-License-Identifier: MIT
-- For wrk: offers a fixed load, whatever the answers. Arguments: content type, milliseconds that
-- a connection waits between an answer and the next request, the deadline in milliseconds, then
-- the bodies' files. The result is one line of JSON; milliseconds are the server's own total.

local requests, turn, pause = {}, 0, 0
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  pause = tonumber(args[2])
  ok, refused, late, other, times = 0, 0, 0, 0, {}
  for index = 4, #args do
    local file = assert(io.open(args[index], "rb"))
    local headers = { ["Content-Type"] = args[1], ["X-Request-Timeout-Ms"] = args[3] }
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end

function delay()
  return math.random(pause / 2, pause * 3 / 2)
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function response(status, headers)
  if status == 200 then
    ok = ok + 1
    local total = string.match(headers["Server-Timing"] or "", "total;dur=([%d.]+)")
    times[#times + 1] = total or "0"
  elseif status == 503 then
    refused = refused + 1
  elseif status == 504 then
    late = late + 1
  else
    other = other + 1
  end
end

function done(summary)
  local thread = threads[1]
  io.write(string.format(
    '\nRESULT {"ok": %d, "refused": %d, "late": %d, "other": %d, "seconds": %.3f, "times": "%s"}\n',
    thread:get("ok"), thread:get("refused"), thread:get("late"), thread:get("other"),
    summary.duration / 1e6, table.concat(thread:get("times"), " ")))
end
