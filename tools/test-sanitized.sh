#!/bin/bash
# test-sanitized.sh SANITIZERS BUILDDIR: unit and end-to-end tests on a sanitizer build.
set -eu
cd "$(dirname "$0")/.."
build=$2
export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:detect_stack_use_after_return=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 BULLPEN_PATIENCE=4
[ -f "$build/build.ninja" ] || CC=clang CXX=clang++ meson setup "$build" -Db_sanitize="$1" -Db_lundef=false -Dbuildtype=debugoptimized >/dev/null
ninja -C "$build" >/dev/null
meson test -C "$build" --no-rebuild --print-errorlogs --timeout-multiplier 5
BULLPEN_BUILD=$PWD/$build node --test tests/e2e/*.test.mjs tests/e2e/sdk/*.test.mjs
