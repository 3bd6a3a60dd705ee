# What to measure: aes ciphers images qcow2 opening fuse nbd; all of it when empty. BENCH_GIB=N sets the size of the
# image (4), BENCH_ROUNDS=N how often everyone has a turn (3).
BENCH_PARTS ?=
# The kernels that guests run.
GUEST_KERNELS ?= 6.1 6.12
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help run test test-guest lint audit bench fuzz

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build the release binary and show the main job: a server, images encrypted and decrypted, volumes
	cargo build --release --bin strongroom
	scripts/demo "$${CARGO_TARGET_DIR:-target}/release/strongroom"

test: ## Install the tools that tests need where that is allowed, then run every test
	scripts/test

test-guest: ## Check what needs device-mapper in small guests that QEMU runs, with GUEST_KERNELS (6.1 6.12)
	GUEST_KERNELS="$(GUEST_KERNELS)" scripts/test-guest

lint: ## Format, clippy, tidy, dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p strongroom-cli --no-default-features -- -D warnings
	cargo run --quiet -p xtask -- tidy
	scripts/check-dependencies

audit: ## Fetch the advisory database and look every dependency up in it
	scripts/check-dependencies --fetch

bench: ## Measure against OpenSSL, qemu-img and cp, side by side
	scripts/install-test-tools
	cargo build --release --bin strongroom
	cargo run --release --manifest-path benches/Cargo.toml -- \
		"$${CARGO_TARGET_DIR:-target}/release/strongroom" $(BENCH_PARTS)

fuzz: ## Run every fuzz target for FUZZ_SECONDS seconds (default 60)
	scripts/fuzz "$(FUZZ_SECONDS)"
