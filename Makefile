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
ENSEMBLE ?=
FLIPS ?=
STUDY ?= unet_em unet_em_phi1 unet_em_supervised
SWEEP ?=
VARIANTS ?=

# A value as one word of the shell, whatever blanks and quotes are in it. Names of targets cannot hold blanks, so what is
# made for a cohort or a run that the user names is made by a recipe, never asked for as a prerequisite.
quoted = '$(subst ','\'',$(1))'
export COVID20 MEDSEG

# An experiment's file is the one place that names its cohort and the stage whose weights it starts from; launch.py reads
# it, makes what is missing, and becomes train.py, or a module that reads the cohort.
of_cohort = $(if $(1),$(call quoted,--data.cohort=$(1)))
# $(call fit,<experiment>,<folder of runs>,<cohort, if not the experiment's own>)
fit = $(PY) launch.py fit --config experiments/base.yaml --config experiments/$(1).yaml $(call of_cohort,$(3)) --runs $(call quoted,$(2)) $(call quoted,--stage1_runs=$(2)) $(if $(FRESH),--fresh=true)
WITH_COHORT = $(PY) launch.py cohort --config experiments/base.yaml $(if $(EXP),--config experiments/$(EXP).yaml) $(call of_cohort,$(COHORT)) --

# An ensemble's seeds: as listed, or the first so many where SEEDS is one number from 1 on.
MEMBERS = $(or $(if $(word 2,$(SEEDS)),$(SEEDS),$(wordlist 1,$(SEEDS),$(shell seq 0 99))),$(error SEEDS=$(SEEDS): give a number of seeds from 1 on, or several seeds))
MEMBER = $(RUNS)/ensemble/seed$(1)/$(EXP)/latest

# A sweep's file is in a folder of its own: it is no experiment, but a search over the one that its command names.
SWEEPS := $(sort $(basename $(notdir $(wildcard experiments/sweeps/*.yaml))))

.DEFAULT_GOAL := help
.PHONY: help setup cohort prepare train evaluate predict study test test-all lint smoke bench clean split composition calibrate wheel page
.PHONY: import ensemble view readers stats noise-model cross-validate opacity-study em-study sweep sweep-offline report compare
.DELETE_ON_ERROR:

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@echo "  experiments: $(EXPERIMENTS)"
	@echo "  sweeps: $(SWEEPS)"

setup: $(INSTALLED)  ## create .venv with the exact versions of requirements.lock (again only when they changed)

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; name another one with PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[dev]"
	@touch $@

cohort: cohorts/phantom/cohort.csv  ## make the phantom cohort: synthetic CT of four sites with known truth

# What can be made, and how, stands in launch.py. Real slices are the user's: MEDSEG=<folder>, COVID20=<folder>.
cohorts/%/cohort.csv: | $(INSTALLED)
	$(PY) launch.py cohort --data.cohort=$@

# What can be imported is what cohort/importers/ can read, a file each, which says in its head where the data comes from and its traps.
import: $(INSTALLED)  ## FROM=<data set> FOLDER=<as downloaded> [OUT=cohorts/<data set> ARGS=]: make a cohort of a public data set
	$(PY) -m cohort.importers $(call quoted,$(FROM)) --folder $(call quoted,$(FOLDER)) --out $(call quoted,$(or $(OUT),cohorts/$(FROM))) $(ARGS)

prepare: $(INSTALLED) $(if $(COHORT),,cohorts/phantom/cohort.csv)  ## [COHORT=<cohort.csv> JOBS=2 SIZE=256 ARGS=]: prepare all scans, with a verdict for each in verdicts.csv; ARGS="--engine dask --scheduler <address>": on a cluster
	$(PY) -m cohort.prepare --cohort $(call quoted,$(or $(COHORT),cohorts/phantom/cohort.csv)) --size $(SIZE) --jobs $(JOBS) $(ARGS)

train: $(INSTALLED)  ## EXP=<experiment> [COHORT= ARGS= RUNS= FRESH=1]: train (cohort and stage 1 first, if they are needed), test, show the table; goes on with an unfinished run of the same configuration, FRESH=1 starts over
	$(call fit,$(EXP),$(RUNS),$(COHORT)) $(ARGS)

ensemble: $(INSTALLED)  ## EXP=<experiment> [SEEDS=3 | SEEDS="0 1 2"] [FLIPS=1 COHORT= ARGS= RUNS=]: train it with several seeds, and test their mean; shows the make predict that takes it
	$(foreach seed,$(MEMBERS),$(call fit,$(EXP),$(RUNS)/ensemble/seed$(seed),$(COHORT)) --unless_finished=true --seed_everything=$(seed) $(ARGS) &&) true
	$(PY) train.py test --config $(call quoted,$(call MEMBER,$(firstword $(MEMBERS)))/config.yaml) --runs $(call quoted,$(RUNS)) $(foreach seed,$(MEMBERS),$(call quoted,--members+=$(call MEMBER,$(seed))/best.ckpt)) $(if $(FLIPS),--flips=true) --trainer.callbacks+=callbacks.save_masks.SaveMasks

evaluate: $(INSTALLED)  ## EXP=<experiment> [RUN=<run folder> SAVE_MASKS=1 FLIPS=1]: test a finished run again; with FLIPS on mirrored slices too, into a run of its own
	$(PY) train.py test --config $(call quoted,$(RUN)/config.yaml) --ckpt_path $(call quoted,$(RUN)/best.ckpt) $(if $(SAVE_MASKS),--trainer.callbacks+=callbacks.save_masks.SaveMasks) $(if $(FLIPS),--flips=true --runs $(call quoted,$(RUNS))) $(ARGS)

split: $(INSTALLED)  ## [COHORT= OUT=<folder> ARGS="--leave-one-site-out" | "--folds 5" | "--test-list <file>" | "--held-out-sites C D"]: write the cohort.csv of every fold
	$(WITH_COHORT) cohort.splits --out $(call quoted,$(or $(OUT),cohorts/folds)) $(ARGS)

composition: $(INSTALLED)  ## [COHORT= ARGS="--style markdown"]: slices, scans and patients per site, split and label
	@$(WITH_COHORT) cohort.composition $(ARGS)

predict: $(INSTALLED)  ## SCAN=<scan | folder of scans | cohort.csv> OUT=<folder> [CKPT=<best.ckpt, or several with blanks between them; quote those that hold blanks> ARGS=--flips]: masks, numbers and reports of new scans, by the default model without CKPT; goes on with an unfinished batch
	$(PY) -m inference.predict $(if $(CKPT),--ckpt $(call quoted,$(CKPT))) --scan $(call quoted,$(SCAN)) --out $(call quoted,$(OUT)) $(ARGS)

calibrate: $(INSTALLED)  ## CKPT=<best.ckpt, or several as in predict> COHORT=<cohort.csv> [ARGS="--coverage 0.9"]: how far volumes may be off, from validation scans; make predict then gives intervals
	$(PY) -m inference.calibrate --ckpt $(call quoted,$(CKPT)) --cohort $(call quoted,$(COHORT)) $(ARGS)

view: $(INSTALLED)  ## [RUNS=runs ARGS="--port 8501"]: a web page on this machine: segment a scan and look at it, compare runs
	$(PY) -m viewer --runs $(call quoted,$(RUNS)) $(ARGS)

study: $(addprefix study-seed-,$(SEEDS))  ## [SEEDS="0 1 2" STUDY="<experiments>"]: experiments with several seeds, and their table (-j2: two at once)
	$(PY) -m evaluation.tables --study $(call quoted,$(RUNS)/study)

study-seed-%: cohort
	$(foreach exp,$(STUDY),$(call fit,$(exp),$(RUNS)/study/seed$*,$(COHORT)) --unless_finished=true --seed_everything=$* $(ARGS) &&) true

opacity-study:  ## [SEEDS="0 1 2"]: paper L3 on the phantom with several seeds: soft and hard labels, three networks
	$(MAKE) --no-print-directory study STUDY="opacity_unet opacity_unet_hard opacity_deeplabv3plus opacity_pspnet" COHORT= RUNS=$(call quoted,$(RUNS)/opacity)
	$(PY) -m evaluation.report.opacity_table $(call quoted,$(RUNS)/opacity/study)

em-study: cohorts/mixed/cohort.csv  ## [SEEDS="0 1 2" VARIANTS="<variants>" JOBS=2]: EM from any label on the mixed phantom: what labels, priors and E-steps are worth
	$(PY) -m evaluation.em_study --out $(call quoted,$(RUNS)/em_study) --seeds $(SEEDS) --jobs $(JOBS) $(if $(VARIANTS),--variants $(VARIANTS)) -- $(ARGS)

sweep: $(INSTALLED)  ## SWEEP=<sweep>: hand a sweep to the W&B server and work for it (wandb sweep, wandb agent)
	$(PY) -m evaluation.sweeps.server_sweep experiments/sweeps/$(SWEEP).yaml $(call of_cohort,$(COHORT)) $(ARGS)

sweep-offline: $(INSTALLED)  ## SWEEP=<sweep> [JOBS=2 COHORT= ARGS= RUNS=]: all trials of a sweep with no server; again to go on
	$(PY) sweep.py experiments/sweeps/$(SWEEP).yaml --runs $(call quoted,$(RUNS)) --jobs $(JOBS) -- $(call of_cohort,$(COHORT)) $(ARGS)

ensemble_of = $(MAKE) --no-print-directory ensemble $(call quoted,RUNS=$(RUNS)/folds/fold-$(1)) $(call quoted,COHORT=$(RUNS)/folds/cohorts/fold-$(1)/cohort.csv)

cross-validate: $(INSTALLED)  ## EXP=<experiment> [COHORT= FOLDS=5 ENSEMBLE=1 SEEDS=3 FLIPS=1]: every patient in the test split of one fold, and their figures together; with ENSEMBLE of an ensemble in each fold
	$(WITH_COHORT) cohort.splits --folds $(FOLDS) --out $(call quoted,$(RUNS)/folds/cohorts)
	$(foreach fold,$(shell seq $(FOLDS)),$(if $(ENSEMBLE),$(call ensemble_of,$(fold)),$(call fit,$(EXP),$(RUNS)/folds/fold-$(fold),$(RUNS)/folds/cohorts/fold-$(fold)/cohort.csv) $(ARGS)) &&) true
	$(PY) -m evaluation.folds $(call quoted,$(RUNS)/folds)

stats: $(INSTALLED) $(if $(COHORT),,cohorts/opacity/cohort.csv)  ## [COHORT=<cohort.csv> SIZE=256]: mean and deviation of HU and class frequencies of the training slices
	$(PY) -m cohort.training_statistics --cohort $(call quoted,$(or $(COHORT),cohorts/opacity/cohort.csv)) --size $(SIZE) --jobs $(JOBS)

noise-model: $(INSTALLED) $(if $(COHORT),,cohorts/opacity/cohort.csv)  ## [COHORT=<cohort.csv> SIZE=256 OUT=<file>]: estimate the reader noise model, with a picture of its curves
	$(PY) -m evaluation.readers.noise_model --cohort $(call quoted,$(or $(COHORT),cohorts/opacity/cohort.csv)) --size $(SIZE) --jobs $(JOBS) $(if $(OUT),--out $(call quoted,$(OUT)))

readers: $(INSTALLED) $(if $(COHORT),,cohorts/phantom/cohort.csv)  ## [COHORT=<cohort.csv> SIZE=256 EXP=<experiment with saved masks>]: how well readers agree, and the model among them
	$(PY) -m evaluation.readers --cohort $(call quoted,$(or $(COHORT),cohorts/phantom/cohort.csv)) --size $(SIZE) --out $(call quoted,$(RUNS)/readers) $(if $(EXP),--predictions $(call quoted,$(RUN)/masks)) $(ARGS)

# A report and a comparison read the masks of a run's test scans, which are made first where they are missing.
REPORT_OF = --runs $(call quoted,$(RUNS)) $(if $(EXP)$(filter command line environment,$(origin RUN)),$(call quoted,$(RUN)))

# What predict wrote into OUT needs no run.
report: $(INSTALLED)  ## [EXP=<experiment> | RUN=<run folder> | SWEEP=<sweep> | OUT=<folder of make predict> [COHORT=<cohort.csv>]]: both papers' tables and figures of a run, of a sweep, or of all runs side by side; or the lobes of segmented scans, and how a reader scored them
	@$(if $(SWEEP)$(OUT),,$(PY) -m evaluation.missing_masks $(REPORT_OF))
	$(PY) -m evaluation.report $(if $(OUT),$(call quoted,$(OUT)) $(if $(COHORT),--cohort $(call quoted,$(COHORT))),$(if $(SWEEP),--runs $(call quoted,$(RUNS)) --sweep $(SWEEP),$(REPORT_OF)))

compare: $(INSTALLED)  ## A=<run or experiment> B=<run or experiment>: paired tests of two runs on the scans that both were tested on
	@$(if $(and $(A),$(B)),$(PY) -m evaluation.missing_masks --runs $(call quoted,$(RUNS)) $(call quoted,$(A)) $(call quoted,$(B)))
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
	$(MAKE) --no-print-directory predict CKPT=runs/smoke/smoke/latest/best.ckpt SCAN=cohorts/tiny/images/B007 OUT=runs/smoke/predicted

wheel: $(INSTALLED)  ## dist/ground_glass-*.whl and its sdist: the command ground-glass, for those who need no checkout
	$(PY) -m hatchling build

PAGE_INSTALLED := browser/node_modules/.package-lock.json
$(PAGE_INSTALLED): browser/package.json browser/package-lock.json
	cd browser && npm ci --no-progress

page: $(INSTALLED) $(PAGE_INSTALLED)  ## [CKPT=<best.ckpt>]: the page that segments in the browser and uploads nothing, in browser/built (needs Node.js 20)
	$(PY) -m inference.portable.slice_model --out browser/model $(if $(CKPT),--ckpt $(call quoted,$(CKPT)))
	$(PY) -m ground_glass.page_look browser/model/look.json
	cd browser && node build.mjs model/slices.onnx model/about.json model/look.json built

bench: CKPT = $(RUNS)/unet_em/latest/best.ckpt
bench: $(INSTALLED)  ## [CKPT=runs/unet_em/latest/best.ckpt]: measure each claim against what people use instead (peers: pip install -e ".[bench]"); a JSON line each
	@$(PY) -m benchmarks --ckpt $(call quoted,$(CKPT))

clean:  ## remove the environment, prepared arrays, the site and caches; runs and cohorts stay
	rm -rf .venv prepared site dist browser/node_modules browser/built browser/model .mypy_cache .ruff_cache .pytest_cache .hypothesis
