#!/usr/bin/env bash
# Formatting and linters, at the versions tools/go.mod pins. The first run
# builds them, which takes minutes; later runs find them in Go's cache.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache/bin

for tool in github.com/golangci/golangci-lint/v2/cmd/golangci-lint mvdan.cc/gofumpt; do
	CGO_ENABLED=0 go build -C tools -o "../.cache/bin/${tool##*/}" "$tool"
done

# The schema comes from the module too, so that nothing is asked of a network.
module=$(go list -C tools -m -f '{{.Dir}}' github.com/golangci/golangci-lint/v2)
version=$(go list -C tools -m -f '{{.Version}}' github.com/golangci/golangci-lint/v2)
schema=$module/jsonschema/golangci.v$(cut -d. -f1,2 <<<"${version#v}").jsonschema.json
[ -f "$schema" ] || schema=$module/jsonschema/golangci.jsonschema.json
.cache/bin/golangci-lint config verify --schema "$schema"

unformatted=$(find . -name '*.go' -not -path './.cache/*' -not -path './bin/*' -print0 | xargs -0 .cache/bin/gofumpt -l)
if [ -n "$unformatted" ]; then
	printf 'not formatted (make fmt does it):\n%s\n' "$unformatted" >&2
	exit 1
fi
exec .cache/bin/golangci-lint run ./...
