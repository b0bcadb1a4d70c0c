#!/usr/bin/env bash
# Installs what the tests use beyond Go: Debian's packages, and the docker
# command line that Debian lacks, built from its Go module into .cache/bin.
# Running it again when all is there takes a second and changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
	gcc libc6-dev make git            # to build
	busybox-static e2fsprogs fuse3 jq strace    # small parts of plugins, and what looks at them
	docker.io containerd runc         # Docker as a yardstick, and its command line 20.10
	podman conmon crun uidmap         # another user of v1 plugins
	rclone                            # a real volume plugin
	docker-registry skopeo umoci      # registries and images made by others
)

missing=()
for p in "${packages[@]}"; do
	if ! dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed; then
		missing+=("$p")
	fi
done
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "make deps: not installed: ${missing[*]}; run it as root" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	export RUNLEVEL=1 # start no service
	apt-get update -q </dev/null
	apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null
fi

command -v go >/dev/null || {
	echo "make deps: no go command: install Go $(sed -n 's/^go //p' go.mod) or newer" >&2
	exit 1
}

# The go command builds only what changed, so there is no need to look.
version=$(sed -n 's|.*github.com/docker/cli v\([0-9.]*\)+incompatible.*|\1|p' tools/dockercli/go.mod | head -n 1)
mkdir -p .cache/bin
CGO_ENABLED=0 go build -C tools/dockercli -trimpath -o ../../.cache/bin/docker28 \
	-ldflags "-s -w -X github.com/docker/cli/cli/version.Version=$version" github.com/docker/cli/cmd/docker
echo "deps: all there (docker command line $version in .cache/bin/docker28)"
