#!/bin/bash
# MCP servers from PyPI on a worker, through the public API. Of these versions, in a folder of their own below the build folder.
set -eu
cd "$(dirname "$0")/.."
build=$1
venv=$build/mcp-servers/venv
[ -x "$venv/bin/mcp-server-fetch" ] || {
	python3 -m venv "$venv"
	"$venv/bin/pip" -q install mcp-server-git==2026.10.19 mcp-server-time==2026.10.19 mcp-server-fetch==2026.10.24
}
MCP_SERVERS=$PWD/$venv/bin BULLPEN_BUILD=$PWD/$build node --test tests/e2e/extra/mcp-python.test.mjs
