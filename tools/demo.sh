#!/bin/bash
# The main job, for the eye: a server, a pool worker in a clone of a real repository, a prompt, and the branch it pushed.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$PWD/$1
dir=$(mktemp -d)
server='' worker=''
cleanup() {
	[ -z "$worker" ] || { kill "$worker" 2>/dev/null && wait "$worker" 2>/dev/null; } || true
	[ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
	rm -rf "$dir"
}
trap cleanup EXIT
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
# Waits for a line in a file; what waits for ever says why.
await() { # file pattern
	for _ in $(seq 300); do
		grep -q "$2" "$1" 2>/dev/null && return
		sleep 0.05
	done
	echo "gave up waiting for '$2'" >&2
	cat "$1" "$1.err" >&2
	exit 1
}
export GIT_AUTHOR_NAME=Demo GIT_AUTHOR_EMAIL=demo@example.test GIT_COMMITTER_NAME=Demo GIT_COMMITTER_EMAIL=demo@example.test

say "a repository with a remote of its own (this project's history)"
git init -q --bare -b main "$dir/acme/bullpen.git"
git -c safe.directory='*' push -q "$dir/acme/bullpen.git" HEAD:refs/heads/main
base=main
git clone -q "file://$dir/acme/bullpen.git" "$dir/checkout"
echo "file://$dir/acme/bullpen.git, branch $base, $(git -C "$dir/checkout" rev-list --count HEAD) commits"

say "bullpen serve"
"$build/bullpen" serve --listen 127.0.0.1:0 --data "$dir/data" >"$dir/server" 2>"$dir/server.err" &
server=$!
await "$dir/server" '^bullpen: listening on '
cat "$dir/server"
url=$(sed -n 's/^bullpen: listening on //p' "$dir/server")
pool_key=$("$build/bullpen" admin key create --data "$dir/data" --type service_account --name pool --scopes workers:connect)
user_key=$("$build/bullpen" admin key create --data "$dir/data" --type user --name demo --email demo@example.test)

# With a model in the environment (docs/models.md) a task in prose, else one for playbook. Workers need no such key.
model=${OPENAI_API_KEY:-}${OPENAI_BASE_URL:-}${ANTHROPIC_API_KEY:-}
unset OPENAI_API_KEY OPENAI_BASE_URL ANTHROPIC_API_KEY

say "agent worker start --pool, in a clone"
CURSOR_API_KEY=$pool_key "$build/agent" worker start --pool --worker-dir "$dir/checkout" --endpoint "$url" \
	--data-dir "$dir/worker-data" >"$dir/worker" 2>"$dir/worker.err" &
worker=$!
await "$dir/worker" '^Worker is now running'
cat "$dir/worker"

say "agent run"
if [ -n "$model" ]; then
	prompt='Count the lines of the C code (*.c and *.h) of each folder directly in src/ and in src/server/. Write the result to
docs/demo/line-counts.md: a heading, then one list item a folder exactly like "- src/base: 1234". Check what you wrote, and
report the largest folder in one sentence.'
else
	prompt=$(cat <<'P'
Count the lines of each room and write the table down.

```sh
printf '%8s  %s\n' lines room
for d in src/* src/server/*; do
  [ -d "$d" ] && printf '%8d  %s\n' "$(find "$d" -name '*.[ch]' -exec cat {} + | wc -l)" "$d"
done
```
```file docs/demo/line-counts.md
# Lines of each room

Written by an agent, through the pool.
```
```sh must
for d in src/* src/server/*; do
  [ -d "$d" ] && printf -- '- %s: %d\n' "$d" "$(find "$d" -name '*.[ch]' -exec cat {} + | wc -l)"
done >> docs/demo/line-counts.md
```
```tool read_file
{"path": "docs/demo/line-counts.md", "limit": 8}
```
```tool grep_search
{"pattern": "^int main", "outputMode": "files_with_matches"}
```
P
)
fi
export CURSOR_API_KEY=$user_key
[ -z "$model" ] || echo "$prompt"
(cd "$dir/checkout" && printf '%s' "$prompt" | "$build/agent" run --endpoint "$url" - | tee "$dir/run")

say "the pushed branch"
branch=$(sed -n 's/^branch \([^ ]*\) of .*/\1/p' "$dir/run")
[ -n "$branch" ] || { echo "no branch was pushed" >&2; exit 1; }
git -C "$dir/acme/bullpen.git" log --oneline -n 2 "$branch"
git -C "$dir/acme/bullpen.git" diff "$base..$branch"
git -C "$dir/acme/bullpen.git" show "$branch:docs/demo/line-counts.md" | grep -q -- '- src/base: [1-9]'
say "done: $branch holds the expected change"
