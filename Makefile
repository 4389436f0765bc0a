# The doors to this repository; what happens behind them stands in scripts/.

.DEFAULT_GOAL := help
.PHONY: help build run dev test test-integration test-coverage check fmt lint clean deps \
	install-tools build-linux swagger migrate-up migrate-down \
	services-up services-down services-status docker-up docker-down

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build jatis and jatis-worker in release, into target/release
	cargo build --release --bins

run: ## Provide PostgreSQL and RabbitMQ, build, serve on 127.0.0.1:8080 until Ctrl-C
	@scripts/run

dev: ## The same with a debug build, which is built sooner and runs slower
	@scripts/run --debug

test: ## Run all tests against servers of their own
	@scripts/test

test-integration: ## Run only the end-to-end tests
	@scripts/test --integration

test-coverage: ## Run all tests and report which lines they reached, in target/coverage
	@scripts/coverage

check: lint ## Lints, formatting, documentation, rules for tests
	cargo fmt --all --check
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	@# Tests wait for what they need, for as long as it takes; none is switched off.
	@! grep -rnE --include='*.rs' 'thread::sleep|tokio::time::sleep|#\[ignore' tests || \
		{ echo 'check: a test sleeps or is ignored (lines above)' >&2; exit 1; }

fmt: ## Format the Rust code
	cargo fmt --all

lint: ## Lint the Rust code, and the scripts where shellcheck is installed
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package jatis-tests --features containers --bins -- -D warnings
	@scripts/shellcheck

clean: ## Delete what was built; the data under .jatis stays
	cargo clean
	rm -rf dist

deps: ## Download the dependencies that Cargo.lock names
	cargo fetch --locked

install-tools: ## Install what these targets use, where it is missing
	@scripts/tools

build-linux: ## Pack a release for x86_64 Linux into dist/, with its checksum
	@scripts/package

swagger: ## Write the OpenAPI document to docs/openapi.json
	cargo run --quiet --bin jatis -- openapi >target/openapi.json && mv target/openapi.json docs/

migrate-up: ## Bring the schema of the database up to date
	@scripts/jatis migrate

migrate-down: ## Refused: migrations only go forward; it says what to do instead
	@scripts/migrate-down

services-up: ## Start PostgreSQL and RabbitMQ where none answers
	@scripts/services up

services-down: ## Stop those that services-up started; their data stays
	@scripts/services down

services-status: ## Say which servers run where
	@scripts/services status

docker-up: ## Start PostgreSQL and RabbitMQ as containers, at config.yaml's addresses
	docker compose up --detach --wait

docker-down: ## Stop and remove those containers; their data stays in its volumes
	docker compose down
