# Ground Glass: `make help` lists what can be made.
PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/.installed
EXPERIMENTS := $(sort $(filter-out base,$(basename $(notdir $(wildcard experiments/*.yaml)))))

# What a user sets: make train EXP=unet_em COHORT=path/cohort.csv ARGS="--trainer.max_epochs=3"
EXP ?=
COHORT ?=
ARGS ?=
FRESH ?=
RUNS ?= runs
RUN ?= $(RUNS)/$(EXP)/latest
COVID20 ?=
MEDSEG ?=
FOLDS ?= 5
FROM ?=
FOLDER ?=
SAVE_MASKS ?=
JOBS ?= 2
SIZE ?= 256
SEEDS ?= 0 1 2
STUDY ?= unet_em unet_em_phi1 unet_em_supervised
SWEEP ?=

# A value as one word of the shell, whatever blanks and quotes are in it. Names of targets cannot hold blanks, so what is
# made for a cohort or a run that the user names is made by a recipe, never asked for as a prerequisite.
quoted = '$(subst ','\'',$(1))'
export COVID20 MEDSEG

# An experiment's file is the one place that names its cohort and the stage whose weights it starts from; launch.py reads
# it, makes what is missing, and becomes train.py.
FILE := experiments/$(EXP).yaml
OF_COHORT = --config experiments/base.yaml $(if $(EXP),--config $(FILE)) $(if $(COHORT),$(call quoted,--data.cohort=$(COHORT)))
FIT = $(PY) launch.py fit $(OF_COHORT) --runs $(call quoted,$(RUNS)) $(call quoted,--stage1_runs=$(RUNS)) \
	$(if $(FRESH),--fresh=true) $(ARGS)
# Python with the cohort that EXP or COHORT names in the shell's $cohort, made if it is missing.
WITH_COHORT = cohort=$$($(PY) launch.py cohort $(OF_COHORT)) && $(PY)

# A sweep's file is in a folder of its own: it is no experiment, but a search over the one that its command names.
SWEEPS := $(sort $(basename $(notdir $(wildcard experiments/sweeps/*.yaml))))
SWEEP_FILE := experiments/sweeps/$(SWEEP).yaml

.DEFAULT_GOAL := help
.PHONY: help setup cohort prepare train evaluate predict study test test-all lint smoke bench clean check-experiment split composition
.PHONY: readers stats noise-model cross-validate opacity-study
.DELETE_ON_ERROR:

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@echo "  experiments: $(EXPERIMENTS)"
	@echo "  sweeps: $(SWEEPS)"

setup: $(INSTALLED)  ## create .venv with the exact versions of requirements.lock (again only when they changed)

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed, found " + sys.version.split()[0] \
		+ "; name another one with PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[dev]"
	@touch $@

cohort: cohorts/phantom/cohort.csv  ## make the phantom cohort: synthetic CT of four sites with known truth

# What can be made, and how, stands in launch.py. Real slices are the user's: MEDSEG=<folder>, COVID20=<folder>.
cohorts/%/cohort.csv: | $(INSTALLED)
	$(PY) launch.py cohort --data.cohort=$@

# What can be imported is what cohort/importers/ can read, a file each, which says in its head where the data comes from and its traps.
.PHONY: import check-import
import: check-import $(INSTALLED)  ## FROM=<data set> FOLDER=<as downloaded> [OUT=cohorts/<data set> ARGS=]: make a cohort of a public data set
	$(PY) -m cohort.importers.$(FROM) --folder $(call quoted,$(FOLDER)) --out $(call quoted,$(or $(OUT),cohorts/$(FROM))) $(ARGS)

check-import:
	@test -f "cohort/importers/$(FROM).py" || { echo "error: name a data set: make import FROM=<one of these> FOLDER=<folder>"; \
		for f in cohort/importers/[a-z]*.py; do n=$${f##*/}; \
			printf '  %-16s %s\n' "$${n%.py}" "$$(sed -n '1s/"""//gp' $$f)"; done; exit 2; }
	@test -n $(call quoted,$(FOLDER)) || { echo "error: name the folder of $(FROM) as downloaded: FOLDER=<folder>"; exit 2; }

prepare: $(INSTALLED) $(if $(COHORT),,cohorts/phantom/cohort.csv)  ## [COHORT=<cohort.csv> JOBS=2 SIZE=256]: prepare all scans, with a verdict for each in verdicts.csv
	$(PY) -m cohort.prepare --cohort $(call quoted,$(or $(COHORT),cohorts/phantom/cohort.csv)) --size $(SIZE) --jobs $(JOBS)

check-experiment:
	@$(if $(EXP),,echo "error: name an experiment: make train EXP=<one of these>"; $(MAKE) -s list-experiments; exit 2)
	@test -f $(FILE) || { echo "error: there is no experiment '$(EXP)'; there are:"; $(MAKE) -s list-experiments; exit 2; }

.PHONY: list-experiments
list-experiments:
	@for e in $(EXPERIMENTS); do printf '  %-28s %s\n' $$e "$$(sed -n '1s/^# *//p' experiments/$$e.yaml)"; done

train: check-experiment $(INSTALLED)  ## EXP=<experiment> [COHORT= ARGS= RUNS= FRESH=1]: train (cohort and stage 1 first, if they are needed), test, show the table; goes on with an unfinished run of the same configuration, FRESH=1 starts over
	$(FIT)

evaluate: check-experiment $(INSTALLED)  ## EXP=<experiment> [RUN=<run folder> SAVE_MASKS=1]: test a finished run again
	$(PY) train.py test --config $(call quoted,$(RUN)/config.yaml) --ckpt_path $(call quoted,$(RUN)/best.ckpt) \
		$(if $(SAVE_MASKS),--trainer.callbacks+=callbacks.save_masks.SaveMasks) $(ARGS)

split: $(INSTALLED)  ## [COHORT= OUT=<folder> ARGS="--leave-one-site-out" | "--folds 5" | "--test-list <file>" | "--held-out-sites C D"]: write the cohort.csv of every fold
	$(WITH_COHORT) -m cohort.splits --cohort "$$cohort" --out $(call quoted,$(or $(OUT),cohorts/folds)) $(ARGS)

composition: $(INSTALLED)  ## [COHORT= ARGS="--style markdown"]: slices, scans and patients per site, split and label
	@$(WITH_COHORT) -m cohort.composition --cohort "$$cohort" $(ARGS)

predict: $(INSTALLED)  ## CKPT=<best.ckpt, or several with blanks between them; quote those that hold blanks> SCAN=<scan | folder of scans | cohort.csv> OUT=<folder> [ARGS=--flips]: masks, numbers and reports of new scans; goes on with an unfinished batch
	$(PY) -m inference.predict --ckpt $(call quoted,$(CKPT)) --scan $(call quoted,$(SCAN)) --out $(call quoted,$(OUT)) $(ARGS)

.PHONY: calibrate
calibrate: $(INSTALLED)  ## CKPT=<best.ckpt, or several as in predict> COHORT=<cohort.csv> [ARGS="--coverage 0.9"]: how far volumes may be off, from validation scans; make predict then gives intervals
	@test -n $(call quoted,$(CKPT)) -a -n $(call quoted,$(COHORT)) || { echo "error: name a model and the cohort of its training: CKPT=<best.ckpt> COHORT=<cohort.csv>"; exit 2; }
	$(PY) -m inference.calibrate --ckpt $(call quoted,$(CKPT)) --cohort $(call quoted,$(COHORT)) $(ARGS)

.PHONY: view
view: $(INSTALLED)  ## [RUNS=runs ARGS="--port 8501"]: a web page on this machine: segment a scan and look at it, compare runs
	$(PY) -m viewer --runs $(call quoted,$(RUNS)) $(ARGS)

study: $(addprefix study-seed-,$(SEEDS))  ## [SEEDS="0 1 2" STUDY="<experiments>"]: experiments with several seeds, and their table (-j2: two at once)
	$(PY) -m evaluation.tables --study $(call quoted,$(RUNS)/study)

# Where there are no links, `latest` is a file, which our programs follow by themselves; for the shell machine.latest does.
study-seed-%: cohort
	@for exp in $(STUDY); do \
		latest=$(call quoted,$(RUNS)/study/seed$*)/$$exp/latest; \
		test -f "$$($(PY) -m machine.latest "$$latest/metrics.json")" || $(MAKE) --no-print-directory train EXP=$$exp \
			RUNS=$(call quoted,$(RUNS)/study/seed$*) ARGS=$(call quoted,--seed_everything=$* $(ARGS)) || exit $$?; \
	done

opacity-study:  ## [SEEDS="0 1 2"]: paper L3 on the phantom with several seeds: soft and hard labels, three networks
	$(MAKE) --no-print-directory study STUDY="opacity_unet opacity_unet_hard opacity_deeplabv3plus opacity_pspnet" \
		COHORT= RUNS=$(call quoted,$(RUNS)/opacity)
	$(PY) -m evaluation.report.opacity_table $(call quoted,$(RUNS)/opacity/study)

.PHONY: sweep sweep-offline check-sweep
check-sweep:
	@test -n "$(SWEEP)" && test -f "$(SWEEP_FILE)" || { echo "error: there is no sweep '$(SWEEP)'; name one: SWEEP=<one of these>"; \
		for s in $(SWEEPS); do printf '  %-28s %s\n' $$s "$$(sed -n '1s/^# *//p' experiments/sweeps/$$s.yaml)"; done; exit 2; }

sweep: check-sweep $(INSTALLED)  ## SWEEP=<sweep>: hand a sweep to the W&B server and work for it (wandb sweep, wandb agent)
	@test -z $(call quoted,$(ARGS)$(COHORT)) || { echo "error: the server starts trials from $(SWEEP_FILE) alone; put ARGS and COHORT" \
		"into its command, or use make sweep-offline"; exit 2; }
	@$(PY) -m evaluation.sweeps.sweep_file $(SWEEP_FILE)
	@said=$$(mktemp); .venv/bin/wandb sweep $(SWEEP_FILE) 2>&1 | tee $$said; \
		agent=$$(sed -e 's/\x1b\[[0-9;]*m//g' -n -e 's/.*Run sweep agent with: wandb agent //p' $$said); rm -f $$said; \
		test -n "$$agent" || { echo "error: W&B took no sweep (see above); log in first: .venv/bin/wandb login"; exit 2; }; \
		.venv/bin/wandb agent "$$agent"

sweep-offline: check-sweep $(INSTALLED)  ## SWEEP=<sweep> [JOBS=2 COHORT= ARGS= RUNS=]: all trials of a sweep with no server; again to go on
	$(PY) sweep.py $(SWEEP_FILE) --runs $(call quoted,$(RUNS)) --jobs $(JOBS) -- \
		$(if $(COHORT),$(call quoted,--data.cohort=$(COHORT))) $(ARGS)

cross-validate: check-experiment $(INSTALLED)  ## EXP=<experiment> [COHORT= FOLDS=5]: every patient in the test split of one fold, and their figures together
	$(WITH_COHORT) -m cohort.splits --cohort "$$cohort" --folds $(FOLDS) --out $(call quoted,$(RUNS)/folds/cohorts)
	@for fold in $$(seq $(FOLDS)); do \
		$(MAKE) --no-print-directory train EXP=$(EXP) COHORT=$(call quoted,$(RUNS)/folds/cohorts)/fold-$$fold/cohort.csv \
			RUNS=$(call quoted,$(RUNS)/folds)/fold-$$fold || exit $$?; \
	done
	$(PY) -m evaluation.folds $(call quoted,$(RUNS)/folds)

stats: $(INSTALLED) $(if $(COHORT),,cohorts/opacity/cohort.csv)  ## [COHORT=<cohort.csv> SIZE=256]: mean and deviation of HU and class frequencies of the training slices
	$(PY) -m cohort.training_statistics --cohort $(call quoted,$(or $(COHORT),cohorts/opacity/cohort.csv)) --size $(SIZE) --jobs $(JOBS)

noise-model: $(INSTALLED) $(if $(COHORT),,cohorts/opacity/cohort.csv)  ## [COHORT=<cohort.csv> SIZE=256 OUT=<file>]: estimate the reader noise model, with a picture of its curves
	@cohort=$(call quoted,$(or $(COHORT),cohorts/opacity/cohort.csv)); out=$(call quoted,$(OUT)); \
		$(PY) -m evaluation.readers.noise_model --cohort "$$cohort" --size $(SIZE) --jobs $(JOBS) \
		--out "$${out:-$$(dirname "$$cohort")/noise_model.npz}"

readers: $(INSTALLED) $(if $(COHORT),,cohorts/phantom/cohort.csv)  ## [COHORT=<cohort.csv> SIZE=256 EXP=<experiment with saved masks>]: how well readers agree, and the model among them
	$(PY) -m evaluation.readers --cohort $(call quoted,$(or $(COHORT),cohorts/phantom/cohort.csv)) --size $(SIZE) \
		--out $(call quoted,$(RUNS)/readers) $(if $(EXP),--predictions $(call quoted,$(RUN)/masks)) $(ARGS)

# What a report reads of a run beside its figures are the masks of its test scans: made first where they are missing or
# those of other weights. A run whose cohort is gone keeps the part of the report that needs none.
# What goes wrong may name files of patients: it stays out of the run folder.
MASKS_OF = $(PY) -m evaluation.report --without-masks $(1) | while IFS= read -r run; do \
		printf 'masks of %s: ' "$$run"; start=$$(date +%s); log=$$(mktemp); \
		$(PY) train.py test --config "$$run/config.yaml" --ckpt_path "$$run/best.ckpt" \
			--trainer.callbacks+=callbacks.save_masks.SaveMasks </dev/null >"$$log" 2>&1 \
			&& { rm "$$log"; echo "$$(($$(date +%s) - start)) s"; } \
			|| { tail -n 1 "$$log"; echo "no masks of $$run, so its report will be short; see $$log"; }; \
	done

REPORT_OF = --runs $(call quoted,$(RUNS)) $(if $(EXP)$(filter command line environment,$(origin RUN)),$(call quoted,$(RUN)))

.PHONY: report compare
report: $(INSTALLED)  ## [EXP=<experiment> | RUN=<run folder> | SWEEP=<sweep>]: both papers' tables and figures of a run, of a sweep, or of all runs side by side
ifneq ($(SWEEP),)
	$(PY) -m evaluation.report --runs $(call quoted,$(RUNS)) --sweep $(SWEEP)
else
	@$(call MASKS_OF,$(REPORT_OF))
	$(PY) -m evaluation.report $(REPORT_OF)
endif

compare: $(INSTALLED)  ## A=<run or experiment> B=<run or experiment>: paired tests of two runs on the scans that both were tested on
	@test -n $(call quoted,$(A)) -a -n $(call quoted,$(B)) || { echo "error: name two runs: A=<run folder or experiment> B=<run folder or experiment>"; exit 2; }
	@$(call MASKS_OF,--runs $(call quoted,$(RUNS)) $(call quoted,$(A)) $(call quoted,$(B)))
	$(PY) -m evaluation.compare --runs $(call quoted,$(RUNS)) $(call quoted,$(A)) $(call quoted,$(B))

# Several files at a time; all tests of a file in one process, which shares what it trained.
PYTEST = $(PY) -m pytest --numprocesses=$(JOBS) --dist=loadfile

test: $(INSTALLED)  ## [JOBS=2]: run the tests but for the slow ones
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(INSTALLED)  ## run all tests, also those that kill, resume and start several processes
	$(PYTEST) $(ARGS)

lint: $(INSTALLED)  ## check style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

DOCS_INSTALLED := .venv/.installed-docs
$(DOCS_INSTALLED): $(INSTALLED)
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[docs]"
	@touch $@

.PHONY: docs
docs: $(DOCS_INSTALLED)  ## build the documentation with the API as a site, into site/index.html
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

smoke: $(INSTALLED)  ## both stages end to end on a tiny phantom, about a minute
	rm -rf runs/smoke
	$(MAKE) --no-print-directory train EXP=smoke RUNS=runs/smoke
	$(MAKE) --no-print-directory predict CKPT=runs/smoke/smoke/latest/best.ckpt \
		SCAN=cohorts/tiny/images/B007 OUT=runs/smoke/predicted

# These measure on data or weights that are the user's; the others make their own.
BENCHMARKS := $(filter-out phantom_hardness real_slices report_labels, \
	$(basename $(notdir $(shell grep -l '^def main' benchmarks/*.py))))
bench: CKPT = $(RUNS)/unet_em/latest/best.ckpt
bench: $(INSTALLED)  ## [CKPT=runs/unet_em/latest/best.ckpt]: measure each claim against what people use instead (peers: pip install -e ".[bench]"); a JSON line each
	@for claim in $(BENCHMARKS); do said=$$($(PY) -W ignore -m benchmarks.$$claim) || exit 1; echo "$$said" | tail -n 1; done
	@test ! -f $(call quoted,$(CKPT)) || $(PY) -m benchmarks.phantom_hardness --ckpt $(call quoted,$(CKPT))

clean:  ## remove the environment, prepared arrays, the site and caches; runs and cohorts stay
	rm -rf .venv prepared site .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
