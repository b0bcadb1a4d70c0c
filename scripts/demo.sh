#!/usr/bin/env bash
# The story of one volume plugin, from create to remove, with nothing left
# behind. `make demo` builds what it needs and runs it.
#
# Everything it makes is below .cache/demo of this clone and goes away with it.
# As root it runs on the host as it is. An ordinary user gets a user namespace;
# where there are no namespaces, the plugin runs in a chroot.
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$clone"
demo=$clone/.cache/demo
mode=${OUTLET_DEMO_MODE:-}

# --- how it is told ----------------------------------------------------------

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'; else bold='' dim='' off=''; fi
chapter=0
heading() { chapter=$((chapter + 1)); printf '\n%s%d. %s%s\n' "$bold" "$chapter" "$1" "$off"; }
say() { printf '%s\n' "$*"; }
# The long path of the demo's directory is told once, as $demo.
told() { printf '%s\n' "${1//"$demo"/\$demo}"; }
shown() { told "$dim\$ $*$off"; }
# Shows a command as it would be typed, and runs it.
try() { shown "$*"; "$@"; }
# The same for a line with pipes or redirections.
line() { shown "$1"; eval "$1"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# Repeats a command until it succeeds, for at most 30 seconds.
until_ok() {
	local end=$((SECONDS + 30))
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# --- where it can run ---------------------------------------------------------

namespaces=(--mount --pid --fork --mount-proc)
choose_mode() {
	if [ "$(id -u)" = 0 ]; then
		if unshare "${namespaces[@]}" true 2>/dev/null; then echo root; return; fi
		if chroot / true 2>/dev/null; then echo chroot; return; fi
		fail 'root here may neither make namespaces (CAP_SYS_ADMIN) nor change its root (CAP_SYS_CHROOT): give the container one of them'
	fi
	if unshare --user --map-root-user "${namespaces[@]}" true 2>/dev/null; then echo userns; return; fi
	fail 'an ordinary user needs user namespaces, and the kernel refuses them here (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns): allow them, or run it as root'
}

if [ -z "$mode" ]; then
	[ -x bin/outlet ] && [ -x bin/runc ] || fail 'bin/outlet or bin/runc is missing: run `make demo`, which builds them'
	mode=$(choose_mode)
	mkdir -p "$clone/.cache"
	# Two demos at once would share a directory.
	exec 9>"$clone/.cache/demo.lock"
	flock -n 9 || fail 'another demo is running in this clone'
	if [ "$mode" = userns ]; then
		OUTLET_DEMO_MODE=userns exec unshare --user --map-root-user "${namespaces[@]}" "${BASH_SOURCE[0]}"
	fi
fi

# --- leaving nothing behind ---------------------------------------------------

daemon_pid=''
socket_dir=''

# What of the demo is still there: mounts, processes, cgroups, and files outside
# its directory.
mounts_left() { awk -v d="$demo/" 'index($5 "/", d) == 1 { print "mount " $5 }' /proc/self/mountinfo; }
processes_left() {
	local p exe root
	for p in /proc/[0-9]*; do
		[ "${p#/proc/}" != $$ ] || continue
		exe=$(readlink "$p/exe" 2>/dev/null) || continue
		root=$(readlink "$p/root" 2>/dev/null) || root=/
		case "$exe:$root" in
		"$demo"/*:* | *:"$demo"/*) ;;
		/dirvol*) [ -n "$plugin_id" ] && grep -qs "${plugin_id:0:12}" "$p/cgroup" "$p/mountinfo" || continue ;;
		*) grep -zqsF -- "$demo/" "$p/cmdline" || continue ;;
		esac
		echo "process ${p#/proc/} ($exe)"
	done
}
cgroups_left() {
	[ -n "$plugin_id" ] || return 0
	find /sys/fs/cgroup -type d -name "*${plugin_id:0:12}*" -printf 'cgroup %p\n' 2>/dev/null || true
}
files_left() {
	find /tmp /run /var/lib /etc -maxdepth 2 \( -name '*outlet*' -o -name '*dirvol*' \) -newer "$demo/started" \
		-printf 'file %p\n' 2>/dev/null | grep -vxF "file $socket_dir" || true
}
plugin_id=''

clean_up() {
	local status=$?
	trap - EXIT INT TERM HUP
	set +e
	if [ $status != 0 ] && [ -s "$demo/daemon.log" ]; then
		printf '\ndemo: the last words of the daemon:\n' >&2
		tail -n 20 "$demo/daemon.log" >&2
	fi
	if [ -n "$daemon_pid" ] && kill -0 "$daemon_pid" 2>/dev/null; then
		outlet rm -f dirvol >/dev/null 2>&1
		kill "$daemon_pid" 2>/dev/null
		wait "$daemon_pid" 2>/dev/null
	fi
	# What a failure may have left: ends it by the ids found, and nothing else.
	local kind what rest
	while read -r kind what rest; do kill -KILL "$what" 2>/dev/null; done < <(processes_left)
	mounts_left | tac | while read -r kind what; do umount -l "$what" 2>/dev/null; done
	cgroups_left | sort -r | while read -r kind what; do rmdir "$what" 2>/dev/null; done
	if [ -z "$(mounts_left)" ]; then rm -rf "$demo" "$clone/.cache/demo.lock"; fi
	[ -z "$socket_dir" ] || rm -rf "$socket_dir"
	exit $status
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

[ -z "$(mounts_left)" ] || fail "an earlier demo left mounts below $demo: umount them"
rm -rf "$demo"
mkdir -p "$demo"
touch "$demo/started"

export PATH=$clone/bin:$PATH
socket=$demo/outlet.sock
if [ ${#socket} -gt 100 ]; then # a socket's path has at most 107 bytes
	socket_dir=$(mktemp -d /tmp/outlet-demo.XXXXXX)
	socket=$socket_dir/outlet.sock
fi
export OUTLET_HOST=unix://$socket

daemon=(outlet daemon --data-root "$demo/lib" --exec-root "$demo/run" -H "$OUTLET_HOST")
[ "$mode" != chroot ] || daemon+=(--runtime chroot)
start_daemon() {
	shown "outlet ${daemon[*]:1} &"
	"${daemon[@]}" >>"$demo/daemon.log" 2>&1 9>&- &
	daemon_pid=$!
	until_ok outlet version || fail 'the daemon does not answer'
}
stop_daemon() {
	shown "kill %1"
	kill "$daemon_pid"
	wait "$daemon_pid" || fail "the daemon ended with status $?"
	daemon_pid=''
}
field() { outlet inspect -f "$1" dirvol; }

# --- the story ----------------------------------------------------------------

say "${bold}A volume plugin without Docker${off}"
case $mode in
root) say 'You are root: the plugin runs in a container made by bin/runc.' ;;
userns) say 'You are an ordinary user: all of this runs in a user namespace of its own.' ;;
chroot) say 'Namespaces are not allowed here: the plugin runs in a chroot, which isolates nothing.' ;;
esac

heading 'A daemon, with everything in one directory'
printf '%s$ demo=%s%s\n' "$dim" "$demo" "$off"
shown "export OUTLET_HOST=$OUTLET_HOST"
start_daemon

heading 'A plugin: one static program and its config.json'
try examples/dirvol/build.sh "$demo/dirvol"
line '(cd "$demo/dirvol" && find . -type f)'
try outlet create dirvol "$demo/dirvol"
plugin_id=$(field '{{.ID}}')

heading 'Enabled, it runs'
try outlet enable dirvol
try outlet ls

heading 'A volume, whose files are on this machine'
try outlet volume create -d dirvol -o mode=0770 notes
shown 'dir=$(outlet volume mount notes)'
dir=$(outlet volume mount notes)
told "$dir"
line 'echo "written on the host" > "$dir/hello"'
try outlet exec dirvol /dirvol cat notes hello
line 'echo "written by the plugin" | outlet exec -i dirvol /dirvol put notes answer'
line 'cat "$dir/answer"'
say 'While the volume is mounted it holds the plugin:'
shown 'outlet disable dirvol'
if outlet disable dirvol 2>"$demo/refused"; then fail 'a plugin in use was disabled'; fi
cat "$demo/refused"

heading 'The plugin is killed, and comes back by itself'
pid=$(field '{{.Status.PID}}')
line "kill -KILL $pid"
returned() { [ "$(field '{{.Status.State}} {{.Status.Restarts}}')" = 'running 1' ]; }
until_ok returned || fail "the plugin did not come back: $(field '{{.Status.State}}, {{.Status.Restarts}} restarts, {{.Status.Error}}')"
try outlet ls
try outlet logs -t dirvol
say 'Its volume is there, with its files:'
try outlet volume ls
try outlet exec dirvol /dirvol cat notes hello

say 'What happened so far:'
line "outlet events --since 10m --until 0s --format '{{.Type}} {{.Action}}'"

heading 'The daemon stops and starts; the plugin does not notice'
pid=$(field '{{.Status.PID}}')
stop_daemon
kill -0 "$pid" || fail 'the plugin ended with the daemon'
say "The daemon is gone; the plugin, process $pid, is not."
start_daemon
running() { [ "$(field '{{.Status.State}}')" = running ]; }
until_ok running || fail "the plugin is not running: $(field '{{.Status.State}} {{.Status.Error}}')"
[ "$(field '{{.Status.PID}}')" = "$pid" ] || fail 'the plugin was started anew'
try outlet ls
try outlet exec dirvol /dirvol cat notes hello

heading 'Unmounted and removed'
try outlet volume unmount notes
try outlet volume rm notes
try outlet disable dirvol
try outlet rm dirvol
stop_daemon

heading 'Nothing is left'
left=$(mounts_left; processes_left; cgroups_left; files_left)
[ -z "$left" ] || fail "this is left: $left"
say 'no process, no mount, no cgroup, no file outside its directory'
say "and what the daemon kept of it all: $(du -sh "$demo/lib" | cut -f 1), removed now"
printf '\n%sThat was all of it, in %d s.%s\n' "$bold" "$SECONDS" "$off"
