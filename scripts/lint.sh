#!/usr/bin/env bash
# Formatting and linters, at the versions tools/go.mod pins. The first run
# builds them, which takes minutes; later runs find them in Go's cache.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache/bin

for tool in github.com/golangci/golangci-lint/v2/cmd/golangci-lint mvdan.cc/gofumpt; do
	CGO_ENABLED=0 go build -C tools -o "../.cache/bin/${tool##*/}" "$tool"
done

.cache/bin/golangci-lint config verify

unformatted=$(find . -name '*.go' -not -path './.cache/*' -not -path './bin/*' -print0 | xargs -0 .cache/bin/gofumpt -l)
if [ -n "$unformatted" ]; then
	printf 'not formatted (make fmt does it):\n%s\n' "$unformatted" >&2
	exit 1
fi
exec .cache/bin/golangci-lint run ./...
