#!/bin/sh
# Measures POST /predict/MODEL of a running server with wrk, beside nginx answering a constant of the same size in the
# same run: what this machine can do at all, with the client on it.
#
# Usage: Benchmarks/predict_route.sh URL MODEL BODY
#   URL    of the running server, http://127.0.0.1:8000
#   MODEL  a deployed model, flight_delay
#   BODY   file with one request body; in a file named *.ndjson each line is one, and requests go round them
# Environment: DURATION seconds measured per server (10), WARMUP seconds before (2), CONNECTIONS (64), THREADS of wrk (1),
#   BOTTEGA_TOKEN where the server wants one.
set -eu

usage() {
    sed -n '2,/^set -eu$/{/^set -eu$/d;s/^# \{0,1\}//;p;}' "$0" >&2
    exit 2
}
die() { echo "predict_route: $1" >&2; exit 1; }

[ $# -eq 3 ] || usage
url=${1%/} model=$2 body=$3
duration=${DURATION:-10} warmup=${WARMUP:-2} connections=${CONNECTIONS:-64} threads=${THREADS:-1}
[ -r "$body" ] || die "cannot read the body file $body"
for tool in wrk nginx curl python3; do
    command -v "$tool" >/dev/null || die "$tool is missing; install it with the system's package manager"
done

work=$(mktemp -d)
nginx_pid=
cleanup() {
    status=$?
    trap - EXIT
    if [ -n "$nginx_pid" ]; then
        kill "$nginx_pid" 2>/dev/null || true
        wait "$nginx_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# One request first: it must be answered with 200, and its length is that of nginx's constant.
case $body in
*.ndjson) head -n 1 "$body" >"$work/first" ;;
*) cp "$body" "$work/first" ;;
esac
code=$(curl -sS -o "$work/answer" -w '%{http_code}' -X POST -H 'Content-Type: application/json' \
    ${BOTTEGA_TOKEN:+-H "Authorization: Bearer $BOTTEGA_TOKEN"} --data-binary "@$work/first" "$url/predict/$model") ||
    die "no answer from $url/predict/$model"
[ "$code" = 200 ] || die "$url/predict/$model answered $code: $(head -c 300 "$work/answer")"
size=$(wc -c <"$work/answer")
[ "$size" -ge 16 ] || die "the answer has $size bytes only: $(cat "$work/answer")"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
constant="{\"constant\":\"$(printf "%$((size - 15))s" '' | tr ' ' x)\"}"
mkdir "$work/logs" # where nginx looks before it has read its configuration
cat >"$work/nginx.conf" <<END
worker_processes 2;
daemon off;
pid $work/nginx.pid;
error_log $work/nginx.log warn;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    keepalive_requests 1000000000;
    default_type application/json;
    server {
        listen 127.0.0.1:$port;
        location / { return 200 '$constant'; }
    }
}
END
nginx -p "$work" -c "$work/nginx.conf" 2>>"$work/nginx.log" &
nginx_pid=$!
tries=0
until curl -s -o /dev/null "http://127.0.0.1:$port/"; do
    kill -0 "$nginx_pid" 2>/dev/null || die "nginx does not start: $(tail -n 3 "$work/nginx.log")"
    tries=$((tries + 1))
    [ "$tries" -lt 50 ] || die "nginx does not answer: $(tail -n 3 "$work/nginx.log")"
    sleep 0.1
done

cat >"$work/post.lua" <<'END'
local headers = { ["Content-Type"] = "application/json" }
local token = os.getenv("BOTTEGA_TOKEN")
if token and token ~= "" then headers["Authorization"] = "Bearer " .. token end
local path, bodies = os.getenv("ROUTE"), {}
local file = assert(io.open(os.getenv("BODY"), "rb"))
if os.getenv("BODY"):match("%.ndjson$") then
    for line in file:lines() do
        if line ~= "" then bodies[#bodies + 1] = line end
    end
else
    bodies[1] = file:read("*a")
end
file:close()
local requests, next_request = {}, 0

function init(args)
    for index, body in ipairs(bodies) do requests[index] = wrk.format("POST", path, headers, body) end
end

function request()
    next_request = next_request % #requests + 1
    return requests[next_request]
end

function done(summary, latency, _)
    local errors = summary.errors
    print(string.format("RESULT %d %d %.1f %.1f %.1f %d", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), latency.max,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
END

# Prints: requests per second, p50 and p99 in microseconds, failed requests.
load_server() {
    if [ "$warmup" -gt 0 ]; then
        BODY=$body ROUTE=/predict/$model wrk -t"$threads" -c"$connections" -d"${warmup}s" -s "$work/post.lua" "$1" >/dev/null
    fi
    BODY=$body ROUTE=/predict/$model wrk -t"$threads" -c"$connections" -d"${duration}s" -s "$work/post.lua" "$1" >"$work/wrk"
    awk '$1 == "RESULT" { printf "%.0f %.0f %.0f %d\n", $2 * 1e6 / $3, $4, $5, $7; found = 1 }
        END { exit !found }' "$work/wrk" || die "wrk printed no result: $(tail -n 5 "$work/wrk")"
}

load_server "$url" >"$work/server"
load_server "http://127.0.0.1:$port" >"$work/constant"
echo "POST $url/predict/$model: $connections connections, ${duration} s each, bodies of $(wc -c <"$work/first") bytes, answers of $size bytes, $(nproc) cores"
awk '
    { rate[FNR == NR] = $1; name = FNR == NR ? "predict" : "nginx, constant"
      printf "%-16s %8d req/s   p50 %.2f ms   p99 %.2f ms   failed %d\n", name, $1, $2 / 1000, $3 / 1000, $4
      failed += $4 }
    END { printf "%-16s %8.2f of nginx\n", "ratio", rate[1] / rate[0]; exit failed > 0 }
' "$work/server" "$work/constant"
