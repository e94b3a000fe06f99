# The commands of this project; `make` lists them.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
TRIPLE  := $(shell uname -m)-unknown-linux-gnu
# The same folder as cargo's.
OUT     := $(or $(CARGO_TARGET_DIR),target)
PROGRAM := $(OUT)/$(TRIPLE)/release/peitho
IMAGE   := $(OUT)/peitho-image.tar

# Tools of the checks, at fixed versions, in the user's cache: a fresh clone need not build them again.
TOOLS              := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/peitho-tools
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY         := $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

CARGO_FUZZ_VERSION := 0.13.2
CARGO_FUZZ         := $(TOOLS)/cargo-fuzz-$(CARGO_FUZZ_VERSION)/bin/cargo-fuzz
FUZZ_TARGETS       := $(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs))

# One file that runs anywhere, also where nothing else is.
STATIC := -C target-feature=+crt-static
# A static program that may lie anywhere in memory has some 25,000 relocations: packed, it is 0.6 MB smaller. (What a stack is unwound by
# is another 1.9 MB, and stays: where somebody sets RUST_BACKTRACE, each error looks for its way back and would abort without.)
SMALL  := -C link-arg=-Wl,-z,pack-relative-relocs

.DEFAULT_GOAL := help
.PHONY: help build image lints check docs faults protocol prepare test bench demo fuzz clean

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: ## the static release program
	RUSTFLAGS="$(STATIC) $(SMALL)" cargo build --release --locked --package peitho --target $(TRIPLE)
	@echo $(PROGRAM)

image: build ## the OCI image of the program and CA certificates, without a daemon
	cargo run --quiet --locked --package testbed -- image --program $(PROGRAM) --output $(IMAGE) --tag peitho:$(VERSION)
	@echo $(IMAGE)

# These start a real registry or server of S3, which `make test` brings and `make check` cannot: it works without root.
NEEDS_SERVERS := --skip registry::tests --skip image::tests --skip store::tests::s3

lints: $(CARGO_DENY) ## format, lints, documentation, dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --locked
	$(CARGO_DENY) --locked check bans licenses sources

check: lints ## all that needs no counterpart: lints and unit tests
	cargo test --workspace --lib --bins --locked -- $(NEEDS_SERVERS)
	cargo test --locked --test house --test it --test delivery --test startup -- --skip clients::

docs: ## renew the generated pages
	UPDATE_DOCS=1 cargo test --quiet --locked --test house the_configuration_page

faults: build ## renew docs/faults.md and the recorded pods of failed launches, by a whole run of the suite; as root
	rm -f src/runtime/kubernetes/verdict/recorded/*.json
	RECORD=1 UPDATE_DOCS=1 cargo test --locked --test peer

protocol: build ## renew docs/protocol.md, by a whole run of the suite; as root
	UPDATE_DOCS=1 cargo test --locked --test dialect

prepare: ## what the suites need, built once
	cargo run --quiet --locked --package testbed -- prepare

test: build prepare ## everything, with real peers, Kubernetes and dockerd; as root
	cargo test --workspace --locked --no-fail-fast

bench: build ## the performance budget: Peitho beside dockerd (ROUNDS=3; UPDATE_DOCS=1 renews the README's picture); as root
	cargo run --quiet --locked --package testbed -- bench $(if $(ROUNDS),--rounds $(ROUNDS))

demo: build ## a peer installs, runs and queries chaincode; stays until Ctrl-C (ONCE=1 ends; FABRIC=1.4; CHAINCODE=node; RUNTIME=kubernetes or docker); as root
	cargo run --quiet --locked --package testbed -- demo $(if $(FABRIC),--fabric $(FABRIC)) $(if $(CHAINCODE),--language $(CHAINCODE)) $(if $(RUNTIME),--runtime $(RUNTIME)) $(if $(filter-out 0,$(ONCE)),--once)

# Instrumentation and sanitizers are options of a nightly compiler; RUSTC_BOOTSTRAP lets the stable one take them, so that
# what is fuzzed is what is shipped. Inputs that are found go to the folder of the build; a good one is copied by hand.
fuzz: $(CARGO_FUZZ) ## the parsers against all that libFuzzer makes up, TIME seconds each (60); TARGET=tar is one of them
	@set -e; for target in $(or $(TARGET),$(FUZZ_TARGETS)); do \
		mkdir -p fuzz/target/found/$$target; \
		RUSTC_BOOTSTRAP=1 $(CARGO_FUZZ) fuzz run --fuzz-dir fuzz $$target fuzz/target/found/$$target fuzz/corpus/$$target \
			-- -max_total_time=$(or $(TIME),60) -max_len=16384 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1; \
	done

clean: ## remove what was built
	cargo clean

$(CARGO_DENY):
	cargo install cargo-deny --locked --version $(CARGO_DENY_VERSION) --root $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)

$(CARGO_FUZZ):
	cargo install cargo-fuzz --locked --version $(CARGO_FUZZ_VERSION) --root $(TOOLS)/cargo-fuzz-$(CARGO_FUZZ_VERSION)
