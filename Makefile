# The doors to this repository; what happens behind them stands in scripts/.

.DEFAULT_GOAL := help
.PHONY: help run test check services-up services-down services-status clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Provide PostgreSQL and RabbitMQ, build, serve on 127.0.0.1:8080 until Ctrl-C
	@scripts/run

test: ## Run all tests against servers of their own
	@scripts/test

check: ## Formatting, lints, documentation, rules for tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	@# Tests wait for what they need, for as long as it takes; none is switched off.
	@! grep -rnE --include='*.rs' 'thread::sleep|tokio::time::sleep|#\[ignore' tests || \
		{ echo 'check: a test sleeps or is ignored (lines above)' >&2; exit 1; }

services-up: ## Start PostgreSQL and RabbitMQ where none answers
	@scripts/services up

services-down: ## Stop those that services-up started; their data stays
	@scripts/services down

services-status: ## Say which servers run where
	@scripts/services status

clean: ## Delete what was built; the data under .jatis stays
	cargo clean
