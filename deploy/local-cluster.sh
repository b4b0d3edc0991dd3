#!/usr/bin/env bash
# A cluster of processes on this machine, for trying things out and for tests.
#
#   deploy/local-cluster.sh up [SEGMENTS]   starts a supervisor and segments (4 by default)
#   deploy/local-cluster.sh down            stops them
#   deploy/local-cluster.sh status          says what runs
#
# ARROWHOP        the binary (default: target/release/arrowhop, built if it is not there)
# ARROWHOP_STATE  catalog and model store (default: the platform's data folder)
# CLUSTER_DIR     pid files and logs (default: target/local-cluster)
# CLUSTER_PORT    the supervisor's port (default: 7400)
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${ARROWHOP:-target/release/arrowhop}
folder=${CLUSTER_DIR:-target/local-cluster}
port=${CLUSTER_PORT:-7400}
uri=grpc://127.0.0.1:$port

start() { # name, arguments…
    local name=$1
    shift
    "$binary" "$@" >"$folder/$name.out" 2>"$folder/$name.log" &
    echo $! >"$folder/$name.pid"
    # The first line of its output says that it listens.
    for _ in $(seq 200); do
        [ -s "$folder/$name.out" ] && return
        kill -0 "$(cat "$folder/$name.pid")" 2>/dev/null || break
        sleep 0.05
    done
    echo "$name did not start:" >&2
    cat "$folder/$name.log" >&2
    down >&2
    exit 1
}

up() {
    local segments=$1
    if compgen -G "$folder/*.pid" >/dev/null; then
        echo "a cluster is up already; stop it with $0 down" >&2
        exit 1
    fi
    [ -x "$binary" ] || cargo build --release
    mkdir -p "$folder"
    start supervisor supervisor --listen "127.0.0.1:$port"
    for ((i = 0; i < segments; i++)); do
        start "segment-$i" segment --supervisor "$uri" --segment "$i" --slots 1
    done
    echo "supervisor and $segments segments are up; run on them with"
    echo "  arrowhop fit EXPERIMENT --cluster $uri"
}

down() {
    local file pid
    # Segments first: a supervisor without them has nothing to wait for.
    for file in "$folder"/segment-*.pid "$folder"/supervisor.pid; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 200); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        kill -9 "$pid" 2>/dev/null && echo "$file: had to be killed" >&2
        rm -f "$file"
    done
}

status() {
    local file
    for file in "$folder"/*.pid; do
        [ -e "$file" ] || continue
        if kill -0 "$(cat "$file")" 2>/dev/null; then state=up; else state=gone; fi
        echo "$(basename "$file" .pid) $state $(cat "${file%.pid}.out")"
    done
}

case "${1:-} ${2:-}" in
"up "*) up "${2:-4}" ;;
"down ") down ;;
"status ") status ;;
*)
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
