#!/usr/bin/env bash
# A container engine, as root on Debian, if none answers: Debian's own package, started by hand. And
# what the images are built with, where it is missing.
set -euo pipefail
log=/tmp/k2-dockerd.log
engine=docker # its package has a name that reads like a host's
missing=()
command -v docker > /dev/null || missing+=("$engine.io")
docker compose version > /dev/null 2>&1 || command -v docker-compose > /dev/null || missing+=(docker-compose)
command -v debootstrap > /dev/null || missing+=(debootstrap)
if [ "${#missing[@]}" -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" > "$log" 2>&1 \
    || { tail -n 20 "$log" >&2; exit 1; }
fi
docker info > /dev/null 2>&1 && exit 0
setsid dockerd >> "$log" 2>&1 < /dev/null &
for _ in $(seq 60); do
  docker info > /dev/null 2>&1 && exit 0
  sleep 1
done
tail -n 20 "$log" >&2
exit 1
