# Two commands on a fresh machine that has only Python 3.11 and make: `make demo`, `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: demo test test-ray lint lint-workflows emulated unit docs clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[host,tflite,deploy,test]'
	touch $(STAMP)

# The site needs neither TensorFlow nor an interpreter, so it has a stamp of its own.
$(DOCS_STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $(DOCS_STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: lint unit

lint: $(STAMP) lint-workflows
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-workflows: $(STAMP)
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/zizmor --quiet --offline .github

emulated: $(STAMP)
	$(BIN)/python -m tests.emulation

unit: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not ray"

test-ray: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -m ray

# Not with --quiet: mkdocs would then not count its warnings, and --strict would pass with broken links.
docs: $(DOCS_STAMP)
	@log=$$(NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict 2>&1) || { echo "$$log"; exit 1; }
	@echo "built site/index.html; for the search: python3 -m http.server -d site"

clean:
	rm -rf $(VENV) demo site
