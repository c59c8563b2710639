# What can be done here; `make help` lists it.

CARGO ?= cargo
# What the build and the tests need besides cargo, as Debian packages, by the command that shows it is there.
NEEDS = cc:gcc python3:python3 pip3:python3-pip redis-server:redis-server setpriv:util-linux pgbouncer:pgbouncer \
	curl:curl sqlite3:sqlite3 rabbitmq-server:rabbitmq-server promtool:prometheus chromium:chromium node:nodejs npm:npm
# A server that speaks MongoDB's protocol, for the tests of machines that have no mongod; a program of its own.
SECANTUS = SecantusDB==0.7.0b3
# A server that speaks Stripe's API, for tests; a program of its own.
LOCALSTRIPE = localstripe==1.15.10
# A collector of traces, for tests; a program of its own.
ROTEL = rotel==0.0.1a15
# Programs from crates.io, built into target/tools: one checks dependencies, one lists them, one fuzzes.
CARGO_deny = cargo-deny@0.20.2
CARGO_cyclonedx = cargo-cyclonedx@0.5.9
CARGO_fuzz = cargo-fuzz@0.13.2
# For how many rounds pieces are sold, and orders are placed and paid, while processes die.
CHAOS_ROUNDS ?= 1000
CHAOS_ORDER_ROUNDS ?= 100
# For how long each fuzz target runs.
FUZZ_SECONDS ?= 60
# What reads HTTP beside our parser, in tests.
H11 = h11==0.16.0
# What takes events from RabbitMQ, in the benchmark.
PIKA = pika==1.4.4
# What judges pages as they load, apart from what tests need.
LIGHTHOUSE = lighthouse@12.8.2
# What generates clients of the OpenAPI document.
CONTRACT_NEEDS = node:nodejs npm:npm
BENCH_NEEDS = wrk:wrk nginx:nginx-light haproxy:haproxy python3:python3
# What runs containers on a machine that has no engine, and makes images where none can be pulled.
VERIFY_NEEDS = podman:podman buildah:buildah runc:runc slirp4netns:slirp4netns nft:nftables iptables:iptables \
	catatonit:catatonit debootstrap:debootstrap git:git wrk:wrk netavark:netavark \
	aardvark-dns:aardvark-dns
VERSION := $(shell awk -F '"' '/^version/ { print $$2; exit }' Cargo.toml)
IMAGE ?= shop:$(VERSION)
# The program that builds the image, and more options for it, as in IMAGE_ARGS='--platform linux/arm64'.
BUILDER ?= $(firstword $(foreach program,podman buildah docker,$(if $(shell command -v $(program)),$(program))))
IMAGE_ARGS ?=
# The published source, for the image's label.
SOURCE ?=

# What `make run`, the tests and the checks of the program share. An example brings the features that the tests enable in
# dependencies; without it cargo would compile most of them a second time for the tests.
DEBUG = $(CARGO) build --locked --bin app --example argon2

# What `make release` builds for, and what the compiler knows of the program from runs (profile-guided optimisation). Run
# `make train` after a new compiler, other dependencies or much new code. An older profile, or none, costs speed and size
# alone. The linker puts the functions of a start next to each other, so that fewer pages of the program are in memory. It finds
# them by their names in the profile, so the compiler must not merge functions of the same code.
TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
PROFILE = deploy/profile/$(TARGET)
BUILT = target/$(TARGET)/release
BUILD = --release --locked --target $(TARGET)
UNPACKED = target/$(TARGET).profdata
GUIDES = -Cprofile-use=$(CURDIR)/$(UNPACKED) -Cllvm-args=-no-pgo-warn-mismatch -Cllvm-args=-opt-disable=mergefunc \
	-Clink-arg=-Wl,-z,keep-text-section-prefix \
	-Clink-arg=-Wl,--irpgo-profile=$(CURDIR)/$(UNPACKED) -Clink-arg=-Wl,--bp-startup-sort=function
# What a start relocates, which the program's memory keeps, takes a hundredth as a bitmap. glibc reads it from 2.36 on.
PACKED = $(shell getconf GNU_LIBC_VERSION 2>/dev/null | awk '$$2 >= 2.36 { print "-Clink-arg=-Wl,-z,pack-relative-relocs" }')
GUIDED = RUSTFLAGS="$(RUSTFLAGS) $(PACKED) $(if $(wildcard $(PROFILE).gz),$(GUIDES))"
# The compiler and the dependencies that a profile was made with.
VALID = $(shell { rustc -V; cat Cargo.lock; } | cksum)
TRAIN_NEEDS = $(BENCH_NEEDS) h2load:nghttp2-client
# Only the compiler's own version of LLVM reads what its programs write.
PROFDATA = llvm-profdata-$(shell rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')

# The platform whose dependencies the bill of materials lists.
SBOM_TARGET ?= x86_64-unknown-linux-gnu

.DEFAULT_GOAL := help
.PHONY: help run demo release test lint audit sbom bench chaos fuzz train fmt image env check-deploy contract pictures lighthouse verify-deploy verify-cluster needs \
	bench-needs contract-needs train-needs verify-needs

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build the shop as the tests do, and start all of it on http://127.0.0.1:8000
	$(DEBUG)
	target/debug/app

demo: ## Build the shop as the tests do, and show it with products, orders and visitors, on data that goes at the end
	$(DEBUG)
	target/debug/app demo

release: ## Build target/release/app as it is shipped
	@[ "$(VALID)" = "$$(cat $(PROFILE).for 2>&1)" ] \
		|| echo "note: deploy/profile has none for this compiler and these dependencies; make train makes one"
	@mkdir -p target; [ ! -e $(PROFILE).gz ] || gzip -dc $(PROFILE).gz > $(UNPACKED)
	$(GUIDED) $(CARGO) build $(BUILD) --bin app
	@# Not a copy, which the system would cache in larger pieces: they count as memory of the process as a whole.
	@mkdir -p target/release; ln -f $(BUILT)/app target/release/app

test: needs lint check-deploy contract ## Install what is missing, lint, and run every test
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
	then $(CARGO) nextest run --no-fail-fast; \
	else $(CARGO) test --no-fail-fast; fi

lint: target/tools/bin/cargo-deny ## Formatting, clippy with warnings denied, and licences and sources of dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- --deny warnings
	$(CARGO) fetch --locked --quiet
	target/tools/bin/cargo-deny --offline check licenses bans sources

audit: target/tools/bin/cargo-deny ## Ask RustSec's database about the dependencies; takes the network
	target/tools/bin/cargo-deny check advisories

sbom: target/tools/bin/cargo-cyclonedx ## Write the bill of materials to target/app.cdx.json (CycloneDX 1.5)
	target/tools/bin/cargo-cyclonedx cyclonedx --format json --spec-version 1.5 --target $(SBOM_TARGET) --override-filename app.cdx
	mv app.cdx.json target/app.cdx.json

fmt: ## Format the code
	$(CARGO) fmt

check-deploy: needs ## Check the files of the image and of the deployments, without a container or a cluster
	$(DEBUG)
	sh tests/deploy/tools.sh
	target/deploy-tools/venv/bin/python -B tests/deploy/check.py

pictures: needs ## Take the pictures of the pages anew
	$(DEBUG)
	@mkdir -p src/server/ops/pictures src/gateway/pages/pictures
	node tests/browser/pictures.mjs src/server/ops/pictures
	node tests/browser/demo-pictures.mjs target/debug/app src/gateway/pages/pictures

lighthouse: needs target/lighthouse/$(LIGHTHOUSE) ## Judge the pages of a demo with Lighthouse, on a telephone and on a desktop
	$(DEBUG)
	node tests/browser/lighthouse.mjs target/debug/app

contract: needs contract-needs target/contract/installed ## Hold the program against its OpenAPI document, with schemathesis and clients
	$(DEBUG)
	target/contract/venv/bin/python -B tests/contract/run.py

bench: bench-needs release ## Measure start, memory, size, and CPU per request, beside nginx
	$(GUIDED) $(CARGO) build $(BUILD) --example argon2
	APP_BINARY=$(BUILT)/app python3 -B tests/bench/bench.py $(BENCH_ARGS)

chaos: needs ## Sell few pieces for CHAOS_ROUNDS (1000) and by orders for CHAOS_ORDER_ROUNDS (100), while processes and servers die and hang; prints its seed
	$(DEBUG)
	@seed=$${CHAOS_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; \
	for run in catalogue:$(CHAOS_ROUNDS) orders:$(CHAOS_ORDER_ROUNDS); do \
		CHAOS_ROUNDS=$${run#*:} CHAOS_SEED=$$seed \
			$(CARGO) test --locked --test it $${run%:*}::chaos -- --nocapture --test-threads 1 || exit 1; \
	done

fuzz: needs target/tools/bin/cargo-fuzz ## Run each fuzz target for FUZZ_SECONDS (60), from its seeds and what target/fuzz/corpus has
	@# One lock for both packages; the compiler is the one that builds the program.
	cp Cargo.lock tests/fuzz/Cargo.lock
	@for target in $$(ls tests/fuzz/regressions); do \
		mkdir -p target/fuzz/corpus/$$target target/fuzz/artifacts/$$target; \
		RUSTC_BOOTSTRAP=1 PATH="$(CURDIR)/target/tools/bin:$$PATH" $(CARGO) fuzz run --fuzz-dir tests/fuzz \
			--target-dir target/fuzz/build --sanitizer none $$target \
			target/fuzz/corpus/$$target tests/fuzz/regressions/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -print_final_stats=1 \
			-artifact_prefix=target/fuzz/artifacts/$$target/ || exit 1; \
	done

train: train-needs ## Renew the profile of `make release`; takes a quarter of an hour
	rm -rf target/train
	RUSTFLAGS="-Cprofile-generate=$(CURDIR)/target/train -Cllvm-args=-pgo-temporal-instrumentation" \
		$(CARGO) build $(BUILD) --bin app
	LLVM_PROFILE_FILE=$(CURDIR)/target/train/%p.profraw APP_BINARY=$(BUILT)/app python3 -B tests/bench/train.py
	mkdir -p $(dir $(PROFILE))
	@# What is never run is in it, too: the compiler makes that small.
	@# The order in which functions were run first is kept of starts alone: it is what the linker goes by.
	$(PROFDATA) merge --temporal-profile-trace-reservoir-size=0 --output target/train/load target/train/[0-9]*.profraw
	$(PROFDATA) merge --output target/train/merged target/train/load target/train/start-*.profraw
	gzip -9nc target/train/merged > $(PROFILE).gz
	echo "$(VALID)" > $(PROFILE).for
	@# cargo does not see that what it has built has another profile in it.
	rm -rf $(BUILT)

image: ## Build the container image with podman, buildah or docker
	@[ -n "$(BUILDER)" ] || { echo "install podman, buildah or docker, or set BUILDER" >&2; exit 1; }
	DOCKER_BUILDKIT=1 $(BUILDER) build $(if $(filter docker,$(notdir $(BUILDER))),--build-arg SOURCE_DATE_EPOCH=0,--layers --format docker --timestamp 0) \
		--label org.opencontainers.image.revision=$$(git rev-parse HEAD 2>/dev/null) \
		--label org.opencontainers.image.source=$(SOURCE) $(IMAGE_ARGS) --tag $(IMAGE) --file Containerfile .
	@$(BUILDER) images --format '{{.Size}}' $(IMAGE)

env: ## Write deploy/.env with random secrets; in one that is there, fill in those that it lacks
	@umask 077; there=; cd deploy || exit 1; \
	if [ -e .env ]; then there=yes; chmod 600 .env || exit 1; else cp .env.example .env; fi; \
	[ -z "$$(tail -c 1 .env)" ] || echo >> .env; \
	for key in $$(sed -n 's/^\([A-Z_]*\)=$$/\1/p' .env.example); do \
		grep -q "^$$key=" .env || echo "$$key=" >> .env; \
		empty="^$$key=[[:space:]\"']*$$"; \
		grep -q "$$empty" .env || continue; \
		case $$key in SIGNING_KEYS) bytes=32 ;; *) bytes=24 ;; esac; \
		secret=$$(od -An -v -N$$bytes -tx1 /dev/urandom | tr -d ' \n'); \
		[ -n "$$secret" ] || exit 1; \
		filled=$$(printf '%s\n' "s/$$empty/$$key=$$secret/" | sed -f /dev/stdin .env) || exit 1; \
		printf '%s\n' "$$filled" > .env || exit 1; \
		[ -z "$$there" ] || echo "added $$key to deploy/.env"; \
	done; \
	[ -z "$$there" ] || echo "deploy/.env was there already"

verify-deploy: verify-needs ## Build the image and try the deployment for real, in containers
	python3 tests/deploy/verify.py $(VERIFY_ARGS)

verify-cluster: ## Try demo, base and production on the cluster that KUBECONFIG names, in namespaces of their own
	@CARGO="$(CARGO)" python3 -B tests/deploy/verify_cluster.py $(VERIFY_ARGS)

needs:
	@$(call install,$(NEEDS))
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null \
		|| { $(call apt,postgresql); }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { $(call apt,python3-venv); }
	@command -v mongod >/dev/null || [ -x target/secantus/bin/secantusd-py ] \
		|| { python3 -m venv target/secantus && target/secantus/bin/pip install -q --only-binary :all: $(SECANTUS); }
	@[ -x target/localstripe/bin/python ] \
		|| { python3 -m venv target/localstripe && target/localstripe/bin/pip install -q $(LOCALSTRIPE); }
	@[ -x target/rotel/bin/rotel-agent ] \
		|| { python3 -m venv target/rotel && target/rotel/bin/pip install -q --only-binary :all: $(ROTEL) \
		&& cd target/rotel/bin && ln -sf ../lib/python*/site-packages/rotel/rotel-agent rotel-agent; }
	@[ -x target/h11/bin/python ] \
		|| { python3 -m venv target/h11 && target/h11/bin/pip install -q $(H11); }
	@$(MAKE) -s target/browser/installed
	@$(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@$(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy

# A lint needs no release build: the least optimised is built soonest.
target/tools/bin/cargo-%:
	CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off $(CARGO) install -q --locked \
		--root target/tools --target-dir target/tools/build $(CARGO_$*)
	rm -rf target/tools/build

# No script of a package runs.
target/contract/installed: tests/contract/requirements.txt tests/contract/package.json
	rm -rf target/contract
	python3 -m venv target/contract/venv
	target/contract/venv/bin/pip install -q -r tests/contract/requirements.txt
	mkdir target/contract/node
	cp tests/contract/package.json target/contract/node
	npm install --prefix target/contract/node --silent --no-audit --no-fund --no-package-lock --ignore-scripts
	touch $@

# What drives the browser in tests of pages.
target/browser/installed: tests/browser/package.json tests/browser/package-lock.json
	rm -rf target/browser
	mkdir -p target/browser
	cp $^ target/browser
	npm ci --prefix target/browser --silent --no-audit --no-fund --ignore-scripts
	touch $@

target/lighthouse/%:
	rm -rf target/lighthouse
	mkdir -p target/lighthouse
	npm install --prefix target/lighthouse --silent --no-audit --no-fund --no-package-lock --ignore-scripts $*
	touch $@

contract-needs:
	@$(call install,$(CONTRACT_NEEDS))

bench-needs: needs
	@$(call install,$(BENCH_NEEDS))
	@[ -x target/pika/bin/python ] \
		|| { python3 -m venv target/pika && target/pika/bin/pip install -q $(PIKA); }

train-needs: needs
	@$(call install,$(TRAIN_NEEDS) $(PROFDATA):$(subst profdata-,,$(PROFDATA)))

verify-needs: needs
	@$(call install,$(VERIFY_NEEDS))
	sh tests/deploy/tools.sh

# Installs the packages whose commands are missing; $(1) is a list of command:package.
define install
missing=; \
for need in $(1); do \
	PATH="$$PATH:/usr/sbin:/sbin:/usr/lib/podman:/usr/libexec/podman" command -v $${need%%:*} >/dev/null || missing="$$missing $${need##*:}"; \
done; \
if [ -n "$$missing" ]; then \
	$(call apt,$$missing); \
fi
endef

# Installs Debian packages.
define apt
echo "installing $(1)"; sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; $$sudo apt-get update -qq \
&& DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $(1) >/dev/null
endef
