# Two commands on a fresh machine: `make loopback` and `make test`. Both install what is missing first.
SHELL := /bin/bash
IN_ENV := . scripts/environment.sh &&

.DEFAULT_GOAL := help
.PHONY: help setup loopback test check clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

setup: ## install what is missing (apt and .venv, or the activated conda environment)
	@scripts/setup.sh

loopback: setup ## send a photograph through the software air, into out/loopback
	@$(IN_ENV) "$$bin/lrisc" loopback --out out/loopback

check: setup ## style, types and layers
	$(IN_ENV) "$$bin/ruff" check . && "$$bin/ruff" format --check . && "$$bin/mypy" && "$$bin/lint-imports" --no-logo

test: check ## everything that must hold before a commit
	$(IN_ENV) "$$python" -m pytest

clean: ## remove .venv, caches and what the commands wrote
	rm -rf .venv out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
