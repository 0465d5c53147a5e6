#!/bin/bash
# A server and one worker in this repository, for trying things: data in build/try.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$PWD/$1
data=$build/try
mkdir -p "$data"
"$build/bullpen" serve --data "$data/server" >"$data/out" &
server=$!
trap 'kill $server $worker 2>/dev/null; wait' EXIT
worker=
until grep -q '^bullpen: listening' "$data/out"; do
	kill -0 $server
	sleep 0.05
done
cat "$data/out"
url=$(sed -n 's/^bullpen: listening on //p' "$data/out")
[ -f "$data/pool-key" ] || (umask 077 && "$build/bullpen" admin key create --data "$data/server" --type service_account --name pool --scopes workers:connect >"$data/pool-key")
[ -f "$data/user-key" ] || (umask 077 && "$build/bullpen" admin key create --data "$data/server" --type user --name "${USER:-me}" >"$data/user-key")
[ -d "$data/checkout" ] || git clone -q "file://$PWD" "$data/checkout"
unset OPENAI_API_KEY ANTHROPIC_API_KEY # the server's, none of a worker's business
CURSOR_API_KEY=$(cat "$data/pool-key") "$build/agent" worker start --pool --worker-dir "$data/checkout" --endpoint "$url" --data-dir "$data/worker" &
worker=$!
echo "in another terminal: CURSOR_API_KEY=\$(cat $data/user-key) $build/agent run --endpoint $url --repo file://$PWD PROMPT"
wait $server
