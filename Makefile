# Everything a person does here. `make help` explains the targets.
B ?= build
CC ?= cc
MESON_FLAGS ?=
SHELL := /bin/bash
C_FILES = $(shell git ls-files '*.c' '*.h' '*.cc')
T ?=

.PHONY: all help deps demo run test test-postgresql test-unit test-e2e test-hostile test-mcp test-gitea test-s3 test-schema test-asan test-tsan fuzz bench soak openapi fmt lint install clean

web/dist/index.html: web/package-lock.json web/index.html web/vite.config.js web/tsconfig.json $(wildcard web/src/*)
	@cd web && npm ci --silent --no-audit --no-fund && npm run --silent build >/dev/null && touch dist/index.html

all: deps web/dist/index.html $(B)/build.ninja  ## build build/bullpen and build/agent
	@ninja -C $(B) bullpen agent

help:  ## this text
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps:  ## install the Debian packages that are missing
	@tools/install-packages.sh

# A new file in a globbed folder (tools, routes) makes meson look again.
$(B)/build.ninja: web/dist/index.html meson.build $(shell find src tests tools -name meson.build) $(wildcard src/agent/tools src/agent/worker src/server/api src/server/runs tests/trial)
	@if [ -f $@ ]; then meson setup --reconfigure $(B) >/dev/null; else meson setup $(B) $(MESON_FLAGS) >/dev/null; fi
	@touch $@

demo: all  ## run the main job on a real repository and show it
	@tools/demo.sh $(B)

run: all  ## a server and one worker in this repository, until Ctrl-C
	@tools/run.sh $(B)

node_modules = tests/e2e/node_modules/.package-lock.json
$(node_modules): tests/e2e/package.json tests/e2e/package-lock.json
	@cd tests/e2e && npm install --no-save --silent
	@touch $@

test: all $(node_modules)  ## all tests (what is nearest to the store on both databases; STORE=sqlite: on one); the last line is "N passed, N failed"
	@ninja -C $(B) >/dev/null
	@tools/test.sh $(B)

test-postgresql: all $(node_modules)  ## all tests on PostgreSQL
	@ninja -C $(B) >/dev/null
	@STORE=postgresql tools/test.sh $(B)

test-unit: all  ## unit tests only
	@ninja -C $(B) >/dev/null && meson test -C $(B) --no-rebuild --print-errorlogs $(T)

test-e2e: all $(node_modules)  ## end-to-end tests only; T=name for one file
	@ninja -C $(B) tests/fault/bullpen-faulty tests/trial/bullpen-trial tests/herd/bullpen-herd tools/openapi/openapi >/dev/null
	@BULLPEN_BUILD=$(abspath $(B)) node --test $(if $(T),tests/e2e/$(T).test.mjs,tests/e2e/*.test.mjs tests/e2e/sdk/*.test.mjs)

test-hostile: all $(node_modules)  ## N random hostile sessions (1000) on one worker; HOSTILE_AS=nobody for one that is not root, HOSTILE_SEED=x for the same again
	@BULLPEN_BUILD=$(abspath $(B)) HOSTILE_SESSIONS=$(or $(N),1000) HOSTILE_AS=$(or $(HOSTILE_AS),root) node --test tests/e2e/hostile.test.mjs

test-mcp: all $(node_modules)  ## MCP servers from PyPI (git, time, fetch) on a worker
	@tools/test-mcp.sh $(B)

test-gitea: all $(node_modules)  ## pull requests and comments at a real Gitea, built from its Go module
	@tools/test-gitea.sh $(B)

test-s3: all $(node_modules)  ## artifacts in a real MinIO, built from its Go module
	@tools/test-s3.sh $(B)

test-schema: all  ## schemathesis (from PyPI) against docs/openapi.yaml; S=seconds for each of three rounds (120)
	@tools/test-schema.sh $(B) $(or $(S),120)

test-asan: deps $(node_modules)  ## unit and end-to-end tests under address, leak and undefined sanitizers
	@tools/test-sanitized.sh address,undefined build-asan

test-tsan: deps $(node_modules)  ## unit and end-to-end tests under the thread sanitizer
	@tools/test-sanitized.sh thread build-tsan

fuzz: deps  ## run the fuzz targets; S=seconds for each (60), T=name for one
	@tools/fuzz.sh $(or $(S),60) $(T)

build-bench/build.ninja: meson.build bench/meson.build
	@if [ -f $@ ]; then meson setup --reconfigure build-bench >/dev/null; else meson setup build-bench -Dbuildtype=release -Dbench=true $(MESON_FLAGS) >/dev/null; fi
	@touch $@

bench: deps build-bench/build.ninja  ## measure a release build; ONLY=a,c for some rows, QUICK=1 for fewer repetitions
	@ninja -C build-bench all >/dev/null
	@ONLY=$(ONLY) QUICK=$(QUICK) node bench/run.mjs

soak: all  ## M=minutes (10) of runs on 50 workers while everything is killed and cut; nothing may be lost or doubled
	@BULLPEN_BUILD=$(abspath $(B)) M=$(or $(M),10) node bench/soak.mjs

openapi: all  ## write docs/openapi.yaml from the routes
	@ninja -C $(B) tools/openapi/openapi >/dev/null && $(B)/tools/openapi/openapi > docs/openapi.yaml

fmt:  ## format the C code
	@clang-format -i $(C_FILES)

lint: all  ## layout, banned functions, room borders, clang-tidy
	@tools/lint.sh $(B)

install: all  ## install the programs (PREFIX, default /usr/local)
	@install -D -m 755 $(B)/bullpen $(DESTDIR)$(or $(PREFIX),/usr/local)/bin/bullpen
	@install -D -m 755 $(B)/agent $(DESTDIR)$(or $(PREFIX),/usr/local)/bin/agent

clean:  ## remove what was built
	@rm -rf build build-* tests/e2e/node_modules
