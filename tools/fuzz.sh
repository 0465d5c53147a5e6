#!/bin/bash
# fuzz.sh SECONDS: builds the fuzz targets and runs each for that long, from its seeds. "ok NAME" or "not ok NAME" a line;
# what was found stays in build-fuzz/found.
set -u
cd "$(dirname "$0")/.."
seconds=$1 bad=0
[ -f build-fuzz/build.ninja ] || CC=clang CXX=clang++ meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fsanitize=fuzzer-no-link >/dev/null || exit 1
ninja -C build-fuzz >/dev/null || { ninja -C build-fuzz; exit 1; }
mkdir -p build-fuzz/found
for t in build-fuzz/tests/fuzz/fuzz_*; do
	[ -x "$t" ] && [ -f "$t" ] || continue
	name=$(basename "$t")
	mkdir -p "build-fuzz/corpus/$name"
	if "$t" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
		-artifact_prefix="build-fuzz/found/$name-" "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"build-fuzz/$name.log" 2>&1; then
		echo "ok $name"
	else
		echo "not ok $name"
		tail -n 40 "build-fuzz/$name.log"
		bad=1
	fi
done
exit $bad
