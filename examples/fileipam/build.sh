#!/usr/bin/env bash
# Builds the plugin into OUT as `outlet create NAME OUT` takes it: OUT/config.json
# and OUT/rootfs with one static program.
set -euo pipefail
if [ $# != 1 ]; then
	echo "usage: $0 OUT" >&2
	exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
mkdir -p "$out/rootfs/run/docker/plugins" "$out/rootfs/var/lib/fileipam"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$out/rootfs/fileipam" .
cp config.json "$out/config.json"
