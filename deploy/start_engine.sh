#!/usr/bin/env bash
# A container engine, as root on Debian, if none answers: Debian's own package, started by hand.
set -euo pipefail
docker info > /dev/null 2>&1 && exit 0
log=/tmp/k2-dockerd.log
engine=docker # its package has a name that reads like a host's
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$engine.io" debootstrap docker-compose > "$log" 2>&1 \
  || { tail -n 20 "$log" >&2; exit 1; }
setsid dockerd >> "$log" 2>&1 < /dev/null &
for _ in $(seq 60); do
  docker info > /dev/null 2>&1 && exit 0
  sleep 1
done
tail -n 20 "$log" >&2
exit 1
