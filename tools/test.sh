#!/bin/bash
# All tests. Prints what failed in full, then one line a suite, and last "N passed, N failed".
set -u
cd "$(dirname "$0")/.."
build=$1
passed=0 failed=0
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
unset STORE_URL

# Adds a suite's counts and says them; a suite that ended badly without a failed test counts as one.
count() { # name passed failed status
	local p=$2 f=$3
	[ "$4" -ne 0 ] && [ "$f" -eq 0 ] && f=1
	echo "$1: $p passed, $f failed"
	passed=$((passed + p)) failed=$((failed + f))
}

# With STORE=postgresql everything runs on PostgreSQL, with STORE=sqlite nothing does; otherwise what is nearest to the store
# runs on both.
store=${STORE:-both}
postgresql=$log/postgresql
if [ "$store" != sqlite ]; then
	trap 'tools/private-postgresql.sh stop "$postgresql"; rm -rf "$log"' EXIT
	chmod 755 "$log"
	url=$(tools/private-postgresql.sh start "$postgresql") || exit 1
fi

unit_tests() { # those whose path matches this
	for t in $(ninja -C "$build" -t targets all | sed -n 's#^\(tests/unit/[a-z]*/test_[a-z0-9_]*\): .*LINKER.*#\1#p' | grep "$1" | sort); do
		CMOCKA_MESSAGE_OUTPUT=TAP timeout 300 "$build/$t" >"$log/out" 2>"$log/err"
		status=$?
		p=$(grep -c '^\s*ok ' "$log/out")
		f=$(grep '^\s*not ok ' "$log/out" | grep -vc '# SKIP')
		{ [ "$status" -ne 0 ] || [ "$f" -ne 0 ] || [ "$p" -eq 0 ]; } && { cat "$log/out" "$log/err"; [ "$status" -eq 0 ] && status=1; }
		count "$(basename "$t")" "$p" "$f" "$status"
	done
}

if [ "$store" != postgresql ]; then
	echo "unit tests"
	unit_tests .
fi
if [ "$store" != sqlite ]; then
	echo "unit tests of what is in the store, on PostgreSQL"
	STORE_URL=$url unit_tests "$(grep -rl 'store_fixture' tests/unit --include='test_*.c' | sed 's#\.c$#$#' | paste -sd'|' | sed 's#|#\\|#g')"
fi

echo "fuzz targets, a short round"
FRESH=1 tools/fuzz.sh 2 >"$log/out" 2>&1
status=$?
[ "$status" -eq 0 ] || tail -n 50 "$log/out"
p=$(grep -c '^ok ' "$log/out")
f=$(grep -c '^not ok ' "$log/out")
count fuzz "$p" "$f" "$status"

end_to_end() { # the name of the suite, and its files
	local name=$1
	shift
	echo "$name"
	BULLPEN_BUILD=$PWD/$build timeout 2400 node --test --test-concurrency=3 --test-reporter=tap --test-reporter-destination=stdout "$@" >"$log/out" 2>"$log/err"
	status=$?
	grep -E '^ *not ok ' -A 25 "$log/out"
	p=$(sed -n 's/^# pass //p' "$log/out" | tail -1)
	f=$(sed -n 's/^# fail //p' "$log/out" | tail -1)
	[ -n "$p" ] || { tail -n 30 "$log/out" "$log/err"; status=1; }
	count "$name" "${p:-0}" "${f:-0}" "$status"
}

all=(tests/e2e/*.test.mjs tests/e2e/sdk/*.test.mjs)
[ "$store" = postgresql ] || end_to_end "end to end" "${all[@]}"
[ "$store" != postgresql ] || STORE_URL=$url end_to_end "end to end on PostgreSQL" "${all[@]}"
[ "$store" != both ] || STORE_URL=$url end_to_end "end to end, crashes and queue on PostgreSQL" tests/e2e/{crash,queue}.test.mjs

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
