# Everything a person does here, by name. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
JOBS ?= $(shell nproc)
PRESET ?= release
BUILD := $(if $(filter release,$(PRESET)),build,build/$(PRESET))

.PHONY: help setup build quickstart test soak bench lint format sanitize clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing (Debian 12; root or sudo)
	@deploy/setup/debian.sh

build: setup ## Build everything into build/bin (PRESET=dev|asan|tsan|clang for another light)
	@cmake --preset $(PRESET) -Wno-dev > /dev/null || cmake --preset $(PRESET)
	@cmake --build --preset $(PRESET) -j $(JOBS)

quickstart: build ## Start the mesh, train a small model on the King James Bible, serve it, ask it
	@deploy/quickstart.sh

test: build ## Build and pass all tests
	@ctest --preset $(PRESET)

soak: build ## The long versions of the fault tests: 200 kills of a writing store, 20,000 power cuts; fuzzing 100 times as long
	@BDH_FUZZ_FACTOR=100 ctest --preset $(PRESET) -R '^fuzz_test' --timeout 3600
	@BDH_LONG_RUN_TOKENS=200000 ctest --preset $(PRESET) -R LongRun --verbose --timeout 3600
	@BDH_CRASH_KILLS=200 BDH_LARGE_PUT_MIB=2048 ctest --preset $(PRESET) -L faults --timeout 3600
	@BDH_STRESS_LIVES=2500 $(BUILD)/tests/faults/ckpt_stress_test

bench: build ## Run the benchmarks (each compares two things in one run and prints the ratio)
	@set -e; for bench in $(BUILD)/tests/bench/*_bench; do echo "== $$(basename $$bench)"; $$bench; done

lint: ## Check the format of every source, and clang-tidy on what changed against BASE (default HEAD~1)
	@BDH_LINT_TOOLS=1 deploy/setup/debian.sh
	@deploy/lint.sh $(BASE)

format: ## Rewrite every source in the house format
	@git ls-files '*.cc' '*.h' | xargs $(shell command -v clang-format-14 || echo clang-format) -i

sanitize: setup ## Build and test under ASan+UBSan, then TSan
	@cmake --workflow --preset asan
	@cmake --preset tsan && cmake --build --preset tsan --target tsan_tests -j $(JOBS) && ctest --preset tsan

clean: ## Delete build/
	@rm -rf build
