-- For wrk: presents each line of a file once, as Authorization. When there are no more it shows
-- none, and the answer, a challenge, gives away that there were too few.
local lines, shown = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    lines[#lines + 1] = line
  end
end

function request()
  shown = shown + 1
  wrk.headers["Authorization"] = lines[shown]
  return wrk.format()
end
