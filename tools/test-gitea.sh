#!/bin/bash
# Pull requests and comments at a real Gitea, built from its Go module (needs go; the first time takes some minutes), in a folder of its own below the
# build folder.
set -eu
cd "$(dirname "$0")/.."
version=v1.24.6
place=$PWD/$1/gitea-$version
[ -x "$place/gitea" ] || {
	mkdir -p "$place"
	source=$(cd "$place" && go mod download -json "code.gitea.io/gitea@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	cp -r "$source" "$place/source"
	chmod -R u+w "$place/source"
	(cd "$place/source" && go build -tags 'sqlite sqlite_unlock_notify' -o ../gitea .)
}
GITEA=$place BULLPEN_BUILD=$PWD/$1 node --test tests/e2e/extra/gitea.test.mjs
