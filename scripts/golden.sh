#!/usr/bin/env bash
# Rewrites the golden files of every package whose tests have a flag -update.
# Read the difference before you commit it.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

grep -rlE 'flag\.Bool\("update"' --include='*_test.go' . | xargs -r -n 1 dirname | sort -u | while read -r dir; do
	echo "== $dir"
	"$go" test -count=1 "$dir" -update
done
git --no-pager diff --stat 2>/dev/null || true
