#!/bin/bash
# lint.sh BUILDDIR: layout, banned functions, room borders, clang-tidy. Each finding is a line; exits 1 if there is one.
set -u
cd "$(dirname "$0")/.."
bad=0
finding() { echo "$*"; bad=1; }
files=$(git ls-files 'src/*.c' 'src/*.h' 'src/*.cc' 'tests/*.c' 'tests/*.h')

for f in $files; do
	clang-format --dry-run -Werror "$f" >/dev/null 2>&1 || finding "$f: not formatted (make fmt)"
done

banned='\b(strcpy|strcat|sprintf|vsprintf|atoi|atol|strtok|rand|gmtime|localtime|gets|system|popen)\s*\('
while read -r line; do finding "banned function: $line"; done < <(git grep -nE "$banned" -- 'src/*.c' 'src/*.h' | grep -v '^[^:]*:[0-9]*:\s*\*')
allocators='\b(malloc|calloc|strdup|strndup|realloc)\s*\('
while read -r line; do finding "bare allocation (use base/mem.h): $line"; done < <(git grep -nE "$allocators" -- 'src/*.c' | grep -vE '^src/base/(mem|toml_shim)\.')
while read -r line; do finding "wait by the clock in a test: $line"; done < <(git grep -nE '\b(sleep|usleep|nanosleep)\s*\(' -- 'tests/*.c' | grep -v 'interval of polling')

# room: the rooms it may include (architecture.md has the table).
declare -A may=(
	[base]="base" [net]="base net" [link]="base net link" [mcp]="base mcp" [store]="base store"
	[server/audit]="base store server/audit"
	[server/access]="base store server/audit server/access" [server/artifacts]="base net store server/audit server/access server/artifacts" [server/node]="base store server/node" [server/outbox]="base store server/node server/outbox"
	[server/webhooks]="base net store server/node server/outbox server/webhooks"
	[server/oauth]="base net server/oauth"
	[server/login]="base net store server/audit server/access server/oauth server/login"
	[server/forges]="base net server/forges"
	[server/pulls]="base store server/node server/outbox server/forges server/pulls"
	[server/notices]="base store server/outbox server/notices"
	[server/triggers]="base net store server/audit server/node server/outbox server/access server/forges server/pulls server/notices server/fleet server/runs server/api server/triggers"
	[server/automations]="base store server/outbox server/access server/runs server/api server/automations"
	[server/mcp]="base net mcp store server/audit server/oauth server/mcp"
	[server/models]="base net server/models"
	[server/hooks]="base store server/hooks"
	[server/fleet]="base net store link server/node server/fleet"
	[server/runs]="base net mcp store server/audit server/node server/fleet server/models server/webhooks server/notices server/forges server/pulls server/hooks server/oauth server/mcp server/runs"
	[server/api]="base net mcp store server/audit server/access server/artifacts server/node server/fleet server/models server/webhooks server/automations server/forges server/pulls server/hooks server/oauth server/mcp server/login server/runs server/api"
	[server/main]="base net store mcp server/audit server/access server/artifacts server/node server/outbox server/fleet server/models server/webhooks server/forges server/pulls server/triggers server/automations server/hooks server/oauth server/mcp server/login server/runs server/api server/main"
	[agent]="base net link mcp agent"
)
room_of() {
	case $1 in
	server/*) echo "$1" | cut -d/ -f1,2 ;;
	*) echo "$1" | cut -d/ -f1 ;;
	esac
}
for f in $(git ls-files 'src/*.c' 'src/*.h'); do
	room=$(room_of "${f#src/}")
	for inc in $(sed -n 's/^#include "\([a-z_0-9]*\/[a-z_0-9\/.-]*\)"$/\1/p' "$f"); do
		to=$(room_of "$inc")
		case " ${may[$room]} " in
		*" $to "*) ;;
		*) finding "$f: $room may not include $to" ;;
		esac
		# A private header belongs to its folder.
		case $inc in
		*_priv.h) [ "$(dirname "$inc")" = "$(dirname "${f#src/}")" ] || finding "$f: $inc is private to its folder" ;;
		esac
	done
done

if [ "${TIDY:-1}" = 1 ]; then
	clang-tidy -p "$1" --quiet --warnings-as-errors='*' $(git ls-files 'src/*.c') 2>/dev/null || bad=1
fi
exit $bad
