#!/bin/bash
# Artifacts at a real MinIO, built from its Go module (needs go; the first time takes some minutes), in a folder of its own below the build folder.
set -eu
cd "$(dirname "$0")/.."
version=v0.0.0-20260212201848-7aac2a2c5b7c
place=$PWD/$1/minio-$version
[ -x "$place/minio" ] || {
	mkdir -p "$place"
	source=$(cd "$place" && go mod download -json "github.com/minio/minio@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	cp -r "$source" "$place/source"
	chmod -R u+w "$place/source"
	(cd "$place/source" && go build -o ../minio .)
}
MINIO=$place BULLPEN_BUILD=$PWD/$1 node --test tests/e2e/extra/s3.test.mjs
