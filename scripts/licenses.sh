#!/usr/bin/env bash
# Writes THIRD_PARTY_LICENSES: for every module that is linked into bin/outlet
# or bin/runc its licence and notice files, as they are in Go's module cache.
# The order is fixed, so that running it again changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
out=THIRD_PARTY_LICENSES

# Module, version and directory of everything a program is built from.
modules() { # directory of the go.mod, package, value of CGO_ENABLED
	CGO_ENABLED=$3 "$go" list -C "$1" -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' "$2"
}

list=$({
	modules . ./cmd/outlet 0 | sed 's/$/ outlet/'
	modules tools/runc github.com/opencontainers/runc 1 | sed 's/$/ runc/'
} | LC_ALL=C sort -u)

{
	echo 'Licences of the modules that are linked into the programs of Outlet.'
	echo 'Written by scripts/licenses.sh; do not edit.'
	echo
	awk '{ print "  " $1 " " $2 " (" $4 ")" }' <<<"$list"
	printf '\n%s\n%s\n\n[%s]\n\n' '--------------------------------------------------------------------------------' "Go's standard library" LICENSE
	cat "$("$go" env GOROOT)/LICENSE"
	awk '!seen[$1 " " $2]++' <<<"$list" | while read -r path version dir _; do
		found=
		printf '\n%s\n%s %s\n' '--------------------------------------------------------------------------------' "$path" "$version"
		# Case varies; a module below a repository's root may only have the root's.
		while IFS= read -r file; do
			[ -n "$file" ] || continue
			found=1
			printf '\n[%s]\n\n' "$(basename "$file")"
			sed 's/[[:space:]]*$//' "$file"
		done < <(find "$dir" -maxdepth 1 -type f \( -iname 'LICEN[CS]E*' -o -iname 'COPYING*' -o -iname 'NOTICE*' -o -iname 'PATENTS*' \) | LC_ALL=C sort)
		if [ -z "$found" ]; then
			echo "scripts/licenses.sh: $path $version has no licence file" >&2
			exit 1
		fi
	done
} > "$out.new"
mv "$out.new" "$out"
echo "$out: $(awk '{ print $1 }' <<<"$list" | sort -u | wc -l) modules"
