#!/bin/bash
# fuzz.sh SECONDS [NAME]: builds the fuzz targets and runs each (or fuzz_NAME) for that long, two at a time: first what was
# once found (corpus/TARGET/fixed-*) and the other seeds, then on from there. "ok NAME" or "not ok NAME" a line; what is
# found stays in build-fuzz/found. FRESH=1 leaves out what earlier rounds learned: the same work each time.
set -u
cd "$(dirname "$0")/.."
export seconds=$1 FRESH=${FRESH:-}
only=${2:-}
[ -f build-fuzz/build.ninja ] || CC=clang CXX=clang++ meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fsanitize=fuzzer-no-link >/dev/null || exit 1
ninja -C build-fuzz >/dev/null || { ninja -C build-fuzz; exit 1; }
mkdir -p build-fuzz/found
TMPDIR=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)/bullpen-fuzz-XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

one() { # name
	local t=build-fuzz/tests/fuzz/$1 seeds=tests/fuzz/corpus/$1 learned=build-fuzz/corpus/$1 log=build-fuzz/$1.log
	local options="-timeout=20 -rss_limit_mb=2048 -artifact_prefix=build-fuzz/found/$1-"
	[ -z "$FRESH" ] || learned=$TMPDIR/corpus/$1
	mkdir -p "$learned"
	# shellcheck disable=SC2086
	if find "$seeds" -type f | sort -t/ -k5,5 | awk '/\/fixed-/ {print; next} {rest = rest $0 "\n"} END {printf "%s", rest}' |
		xargs -d '\n' "$t" $options >"$log" 2>&1 && "$t" $options -max_total_time="$seconds" -verbosity=0 "$learned" "$seeds" >"$log" 2>&1; then
		echo "ok $1"
		return 0
	fi
	echo "not ok $1"
	grep -v '^INFO' "$log" | tail -n 40 | sed "s/^/# /"
	return 1
}
export -f one

names=$(cd build-fuzz/tests/fuzz && find . -maxdepth 1 -type f -executable -name "fuzz_${only:-*}" -printf '%f\n' | sort)
[ -n "$names" ] || { echo "there is no target fuzz_$only" >&2; exit 1; }
xargs -P 2 -I{} bash -c 'one {}' <<<"$names"
