PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
TRAINERS := .venv/installed-trainers

.PHONY: demo test slow trainers bless benchmarks clean

demo: $(INSTALLED)
	$(BIN)/python -m examples.digits

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto

# Ten times as many random specs and inputs, and all cases that `test` tries some of.
slow: $(INSTALLED)
	OPTDSL_EXAMPLES=10 $(BIN)/python -m pytest -n auto

# Hugging Face Trainer, Accelerate and Lightning: 34 packages, 33 MB to download.
trainers: $(TRAINERS)
	$(BIN)/python -m pytest tests/test_trainers.py

# Write the golden files, the type stubs, the renderings of errors, what `explain` prints
# and the tables of the README and of docs/language.md anew.
bless: $(INSTALLED)
	OPTDSL_BLESS=1 $(BIN)/python -m pytest tests/test_golden.py tests/test_errors.py \
		tests/test_explain.py tests/test_readme.py tests/test_language_docs.py

# Half an hour; nothing else should run beside it.
benchmarks: $(INSTALLED)
	$(BIN)/python benchmarks/compile_time.py
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/peak_memory.py
	$(BIN)/python -m benchmarks.torch_table --all

clean:
	rm -rf .venv build

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[test,demo]'
	touch $@

$(TRAINERS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[trainers]'
	touch $@
