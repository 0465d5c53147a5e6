#!/bin/bash
# schemathesis (PyPI) reads docs/openapi.yaml and looks for requests whose answers it does not allow: with a user's key and
# with a service account's, on a server with an agent that has run. S=seconds for each of the rounds.
set -eu
cd "$(dirname "$0")/.."
build=$1 seconds=$2
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$dir"' EXIT
venv=$build/schemathesis
[ -x "$venv/bin/schemathesis" ] || { python3 -m venv "$venv" && "$venv/bin/pip" -q install schemathesis==4.32.5; }

cat >"$dir/bullpen.toml" <<'END'
[limits]
reads_per_minute = 0
mutations_per_minute = 0
repositories_per_minute = 0
repositories_per_hour = 0
v0_artifacts_per_minute = 0
v0_artifacts_per_hour = 0
END
"$build/bullpen" serve --config "$dir/bullpen.toml" --listen 127.0.0.1:0 --data "$dir/data" >"$dir/log" 2>&1 &
until url=$(grep -o -m1 'http://127[^ ]*' "$dir/log" | head -1) && [ -n "$url" ]; do sleep 0.1; done
key() { "$build/bullpen" admin key create --data "$dir/data" --name schema "$@" 2>/dev/null; }
user=$(key --type user --email schema@example.test) account=$(key --type service_account)
mkdir "$dir/work"
CURSOR_API_KEY=$account "$build/agent" worker start --pool schema --endpoint "$url" --worker-dir "$dir/work" --data-dir "$dir/worker" >"$dir/worker.log" 2>&1 &
until grep -q "Worker is now running" "$dir/worker.log"; do sleep 0.1; done
CURSOR_API_KEY=$user "$build/agent" run --pool schema --endpoint "$url" Hello. >/dev/null
json() { curl -sf -H "Authorization: Bearer $user" "$url$1"; }
agent=$(json /v1/agents | jq -r '.items[0].id') run=$(json /v1/agents | jq -r '.items[0].latestRunId')

# What no schema says is refused with 400 (a cursor that was never given out, a forge that is not configured). A service account may ask for
# the worker `claim`, so GET is a method of that path, too. QUERY is no method that the parser of HTTP/1.1
# knows, so it is 400 as any other nonsense. 501 says what this version does not do.
settings='[phases.coverage]
unexpected-methods = ["DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "410", "413", "429", "501"]
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "501"]
[checks.allow_header_conformance]
enabled = false
'
failed=0
round() { # name key parameters options...
	echo "$1"
	printf '%s\n%s' "$settings" "$3" >"$dir/schemathesis.toml"
	(cd "$dir" && "$OLDPWD/$venv/bin/schemathesis" --config-file "$dir/schemathesis.toml" run "$OLDPWD/docs/openapi.yaml" --url "$url" --header "Authorization: Bearer $2" \
		--exclude-path-regex 'stream|watch' --max-time "$seconds" --request-timeout 20 --continue-on-failure --no-color "${@:4}") >"$dir/out" 2>&1 || {
		cat "$dir/out"
		failed=$((failed + 1))
	}
	grep -E '^ *[0-9]+ generated|found .* failures|No issues' "$dir/out" || true
	kill -0 %1 || { echo "the server is gone"; tail -20 "$dir/log"; exit 1; }
}
round "a user's key" "$user" ''
round "a user's key, an agent that exists" "$user" "[parameters]
\"path.id\" = \"$agent\"
\"path.runId\" = \"$run\"
" --include-path-regex '^/v[01]/agents/\{id\}' --exclude-method DELETE
round "a service account's key" "$account" '' --include-path-regex 'private-workers|tokens|/v1/me'
if grep -E 'level=error|event=request.failed' "$dir/log"; then failed=$((failed + 1)); fi
echo "$((3 - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
