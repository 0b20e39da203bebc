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

# An experiment's file is the one place that names its cohort and the stage whose weights it starts from.
FILE := experiments/$(EXP).yaml
EXP_COHORT := $(or $(shell sed -n 's/^ *cohort: *//p' $(FILE) 2>/dev/null),cohorts/phantom/cohort.csv)
STAGE1 := $(shell sed -n 's|^ *init_weights: *runs/\([^/]*\)/latest/.*|\1|p' $(FILE) 2>/dev/null)
WEIGHTS := $(RUNS)/$(STAGE1)/latest
EXP_SIZE := $(or $(shell sed -n 's/^ *size: *//p' $(FILE) 2>/dev/null),256)
# Soft labels need the reader noise model, which lies beside the cohort that it was estimated from.
NOISE := $(if $(shell sed -n '/^ *noise_model:/p' $(FILE) 2>/dev/null),$(dir $(or $(COHORT),$(EXP_COHORT)))noise_model.npz)
FIT = $(PY) train.py fit --config experiments/base.yaml --config $(FILE) --runs $(RUNS) \
	$(if $(COHORT),--data.cohort=$(COHORT)) $(if $(STAGE1),--model.init_weights=$(WEIGHTS)/best.ckpt) \
	$(if $(NOISE),--model.noise_model=$(NOISE)) $(if $(FRESH),--fresh=true) $(ARGS)

# A sweep's file is in a folder of its own: it is no experiment, but a search over the one that its command names.
SWEEPS := $(sort $(basename $(notdir $(wildcard experiments/sweeps/*.yaml))))
SWEEP_FILE := experiments/sweeps/$(SWEEP).yaml
SWEEP_EXP := $(shell sed -n 's|.*--config=experiments/\([a-z0-9_]*\)[.]yaml.*|\1|p' $(SWEEP_FILE) 2>/dev/null | tail -n 1)

.DEFAULT_GOAL := help
.PHONY: help setup cohort prepare train evaluate predict study test test-all lint smoke bench clean check-experiment stage1 split composition
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

cohorts/phantom/cohort.csv: | $(INSTALLED)
	$(PY) -m ct.phantom --out $(@D)

cohorts/tiny/cohort.csv: | $(INSTALLED)
	$(PY) -m ct.phantom --out $(@D) --tiny

cohorts/tiny_panel/cohort.csv: | $(INSTALLED)
	$(PY) -m ct.phantom --out $(@D) --tiny --readers 3

# For paper L3: pixels fine enough for crazy paving, and a panel of six readers.
cohorts/opacity/cohort.csv: | $(INSTALLED)
	$(PY) -m ct.phantom --out $(@D) --size 128 --readers 6

cohorts/medseg/cohort.csv: | $(INSTALLED)
	@test -n "$(MEDSEG)" || { echo "error: name the folder of slices: MEDSEG=<folder with images/ and masks/>"; exit 2; }
	$(PY) -m ct.import_medseg_slices --folder "$(MEDSEG)" --out $(@D) --grey-low-hu -1100 --grey-high-hu 260 \
		--groups experiments/medseg_groups.csv --transpose --whole-image

%/noise_model.npz: %/cohort.csv | $(INSTALLED)
	$(PY) -m evaluation.noise_model --cohort $< --size $(EXP_SIZE) --out $@

# Real slices are the user's: COVID20=<folder with ct/, lungs/, covid/ and cases.csv>. Grey to HU is an approximation.
cohorts/covid20/cohort.csv: | $(INSTALLED)
	@test -n "$(COVID20)" || { echo "error: name the folder of slices: COVID20=<folder with ct/ lungs/ covid/ cases.csv>"; exit 2; }
	$(PY) -m ct.import_slices --folder "$(COVID20)" --out $(@D) --grey-low-hu -1340 --grey-high-hu 700

# What can be imported is what ct/import_*.py can read; each says in its head where the data comes from and its traps.
.PHONY: import check-import
import: check-import $(INSTALLED)  ## FROM=<data set> FOLDER=<as downloaded> [OUT=cohorts/<data set> ARGS=]: make a cohort of a public data set
	$(PY) -m ct.import_$(FROM) --folder "$(FOLDER)" --out "$(or $(OUT),cohorts/$(FROM))" $(ARGS)

check-import:
	@test -f "ct/import_$(FROM).py" || { echo "error: name a data set: make import FROM=<one of these> FOLDER=<folder>"; \
		for f in ct/import_*.py; do n=$${f#ct/import_}; \
			printf '  %-16s %s\n' "$${n%.py}" "$$(sed -n '1s/"""//gp' $$f)"; done; exit 2; }
	@test -n "$(FOLDER)" || { echo "error: name the folder of $(FROM) as downloaded: FOLDER=<folder>"; exit 2; }

prepare: $(INSTALLED) $(if $(COHORT),,cohorts/phantom/cohort.csv)  ## [COHORT=<cohort.csv> JOBS=2 SIZE=256]: prepare all scans, with a verdict for each in verdicts.csv
	$(PY) -m ct.prepare --cohort "$(or $(COHORT),cohorts/phantom/cohort.csv)" --size $(SIZE) --jobs $(JOBS)

check-experiment:
	@$(if $(EXP),,echo "error: name an experiment: make train EXP=<one of these>"; $(MAKE) -s list-experiments; exit 2)
	@test -f $(FILE) || { echo "error: there is no experiment '$(EXP)'; there are:"; $(MAKE) -s list-experiments; exit 2; }

.PHONY: list-experiments
list-experiments:
	@for e in $(EXPERIMENTS); do printf '  %-28s %s\n' $$e "$$(sed -n '1s/^# *//p' experiments/$$e.yaml)"; done

# Stage 1 is trained first where its weights are missing or were learned from another cohort.
stage1: $(INSTALLED) $(if $(COHORT),,$(if $(wildcard $(FILE)),$(EXP_COHORT)))
	@if [ -n "$(STAGE1)" ] && ! grep -qsx ' *cohort: $(or $(COHORT),$(EXP_COHORT))' $(WEIGHTS)/config.yaml; then \
		$(MAKE) --no-print-directory train EXP=$(STAGE1) \
			ARGS="$(filter --trainer.% --data.% --seed_everything%,$(ARGS))" || exit $$?; \
	elif [ -n "$(STAGE1)" ]; then echo "stage 1: $(WEIGHTS)/best.ckpt"; fi

train: check-experiment $(INSTALLED) $(if $(COHORT),,$(if $(wildcard $(FILE)),$(EXP_COHORT))) $(NOISE) stage1  ## EXP=<experiment> [COHORT= ARGS= RUNS= FRESH=1]: train (stage 1 first, if it is needed), test, show the table; goes on with an unfinished run of the same configuration, FRESH=1 starts over
	$(FIT)

evaluate: check-experiment $(INSTALLED)  ## EXP=<experiment> [RUN=<run folder> SAVE_MASKS=1]: test a finished run again
	$(PY) train.py test --config $(RUN)/config.yaml --ckpt_path $(RUN)/best.ckpt \
		$(if $(SAVE_MASKS),--trainer.callbacks+=callbacks.save_masks.SaveMasks) $(ARGS)

split: $(INSTALLED) $(if $(COHORT),,cohort)  ## [COHORT= OUT=<folder> ARGS="--leave-one-site-out" | "--folds 5" | "--test-list <file>" | "--held-out-sites C D"]: write the cohort.csv of every fold
	$(PY) -m ct.splits --cohort "$(or $(COHORT),$(EXP_COHORT))" --out "$(or $(OUT),cohorts/folds)" $(ARGS)

composition: $(INSTALLED) $(if $(COHORT),,cohort)  ## [COHORT= ARGS="--style markdown"]: slices, scans and patients per site, split and label
	@$(PY) -m ct.composition --cohort "$(or $(COHORT),$(EXP_COHORT))" $(ARGS)

predict: $(INSTALLED)  ## CKPT=<best.ckpt, or several> SCAN=<scan | folder of scans | cohort.csv> OUT=<folder> [ARGS=--flips]: masks, numbers and reports of new scans; goes on with an unfinished batch
	$(PY) -m inference.predict --ckpt $(or $(CKPT),"") --scan "$(SCAN)" --out "$(OUT)" $(ARGS)

.PHONY: calibrate
calibrate: $(INSTALLED)  ## CKPT=<best.ckpt> COHORT=<cohort.csv> [ARGS="--coverage 0.9"]: how far volumes may be off, from validation scans; make predict then gives intervals
	@test -n "$(CKPT)" -a -n "$(COHORT)" || { echo "error: name a model and the cohort of its training: CKPT=<best.ckpt> COHORT=<cohort.csv>"; exit 2; }
	$(PY) -m inference.calibrate --ckpt $(CKPT) --cohort "$(COHORT)" $(ARGS)

.PHONY: view
view: $(INSTALLED)  ## [RUNS=runs ARGS="--port 8501"]: a web page on this machine: segment a scan and look at it, compare runs
	$(PY) -m viewer --runs $(RUNS) $(ARGS)

study: $(addprefix study-seed-,$(SEEDS))  ## [SEEDS="0 1 2" STUDY="<experiments>"]: experiments with several seeds, and their table (-j2: two at once)
	$(PY) -m evaluation.tables --study $(RUNS)/study

study-seed-%: cohort
	@for exp in $(STUDY); do \
		test -f $(RUNS)/study/seed$*/$$exp/latest/metrics.json || $(MAKE) --no-print-directory train EXP=$$exp \
			RUNS=$(RUNS)/study/seed$* ARGS="--seed_everything=$* $(ARGS)" || exit $$?; \
	done

opacity-study:  ## [SEEDS="0 1 2"]: paper L3 on the phantom with several seeds: soft and hard labels, three networks
	$(MAKE) --no-print-directory study STUDY="opacity_unet opacity_unet_hard opacity_deeplabv3plus opacity_pspnet" \
		COHORT= RUNS=$(RUNS)/opacity
	$(PY) -m evaluation.opacity_table $(RUNS)/opacity/study

.PHONY: sweep sweep-offline sweep-trials check-sweep
check-sweep:
	@test -n "$(SWEEP)" && test -f "$(SWEEP_FILE)" || { echo "error: there is no sweep '$(SWEEP)'; name one: SWEEP=<one of these>"; \
		for s in $(SWEEPS); do printf '  %-28s %s\n' $$s "$$(sed -n '1s/^# *//p' experiments/sweeps/$$s.yaml)"; done; exit 2; }

sweep: check-sweep $(INSTALLED)  ## SWEEP=<sweep>: hand a sweep to the W&B server and work for it (wandb sweep, wandb agent)
	@test -z "$(ARGS)$(COHORT)" || { echo "error: the server starts trials from $(SWEEP_FILE) alone; put ARGS and COHORT" \
		"into its command, or use make sweep-offline"; exit 2; }
	@$(MAKE) --no-print-directory stage1 EXP=$(SWEEP_EXP)
	@said=$$(mktemp); .venv/bin/wandb sweep $(SWEEP_FILE) 2>&1 | tee $$said; \
		agent=$$(sed -e 's/\x1b\[[0-9;]*m//g' -n -e 's/.*Run sweep agent with: wandb agent //p' $$said); rm -f $$said; \
		test -n "$$agent" || { echo "error: W&B took no sweep (see above); log in first: .venv/bin/wandb login"; exit 2; }; \
		.venv/bin/wandb agent "$$agent"

sweep-offline: check-sweep $(INSTALLED)  ## SWEEP=<sweep> [JOBS=2 COHORT= ARGS= RUNS=]: all trials of a sweep with no server; again to go on
	@$(MAKE) --no-print-directory sweep-trials EXP=$(SWEEP_EXP)

# All trials start from the weights that `latest` names now, also if another stage 1 is trained meanwhile.
sweep-trials: $(NOISE) stage1
	$(PY) sweep.py $(SWEEP_FILE) --runs $(RUNS) --jobs $(JOBS) -- $(if $(COHORT),--data.cohort=$(COHORT)) \
		$(if $(STAGE1),--model.init_weights=$$(realpath $(WEIGHTS))/best.ckpt) \
		$(if $(NOISE),--model.noise_model=$(NOISE)) $(ARGS)

cross-validate: check-experiment $(INSTALLED) $(if $(COHORT),,$(if $(wildcard $(FILE)),$(EXP_COHORT)))  ## EXP=<experiment> [COHORT= FOLDS=5]: every patient in the test split of one fold, and their figures together
	$(PY) -m ct.splits --cohort "$(or $(COHORT),$(EXP_COHORT))" --folds $(FOLDS) --out $(RUNS)/folds/cohorts
	@for fold in $$(seq $(FOLDS)); do \
		$(MAKE) --no-print-directory train EXP=$(EXP) COHORT=$(RUNS)/folds/cohorts/fold-$$fold/cohort.csv \
			RUNS=$(RUNS)/folds/fold-$$fold || exit $$?; \
	done
	$(PY) -m evaluation.folds $(RUNS)/folds

stats: $(INSTALLED) $(if $(COHORT),,cohorts/opacity/cohort.csv)  ## [COHORT=<cohort.csv> SIZE=256]: mean and deviation of HU and class frequencies of the training slices
	$(PY) -m ct.statistics --cohort "$(or $(COHORT),cohorts/opacity/cohort.csv)" --size $(SIZE) --jobs $(JOBS)

noise-model: $(INSTALLED) $(if $(COHORT),,cohorts/opacity/cohort.csv)  ## [COHORT=<cohort.csv> SIZE=256]: estimate the reader noise model, with a picture of its curves
	$(PY) -m evaluation.noise_model --cohort "$(or $(COHORT),cohorts/opacity/cohort.csv)" --size $(SIZE) --jobs $(JOBS) \
		--out "$(or $(OUT),$(dir $(or $(COHORT),cohorts/opacity/cohort.csv))noise_model.npz)"

readers: $(INSTALLED) $(if $(COHORT),,cohorts/phantom/cohort.csv)  ## [COHORT=<cohort.csv> SIZE=256 EXP=<experiment with saved masks>]: how well readers agree, and the model among them
	$(PY) -m evaluation.readers --cohort "$(or $(COHORT),cohorts/phantom/cohort.csv)" --size $(SIZE) \
		--out $(RUNS)/readers $(if $(EXP),--predictions $(RUN)/masks) $(ARGS)

# What a report reads of a run beside its figures are the masks of its test scans: made first where they are missing or
# older than the weights. A run whose cohort is gone keeps the part of the report that needs none.
MASKS_OF = $(PY) -m evaluation.report --without-masks $(1) | while read -r run; do \
		printf 'masks of %s: ' "$$run"; start=$$(date +%s); \
		$(PY) train.py test --config "$$run/config.yaml" --ckpt_path "$$run/best.ckpt" \
			--trainer.callbacks+=callbacks.save_masks.SaveMasks </dev/null >"$$run/masks.log" 2>&1 \
			&& echo "$$(($$(date +%s) - start)) s" || { tail -n 1 "$$run/masks.log"; echo "no masks of $$run, so its report will be short; see $$run/masks.log"; }; \
	done

REPORT_OF = --runs $(RUNS) $(if $(EXP)$(filter command line environment,$(origin RUN)),"$(RUN)")

.PHONY: report compare
report: $(INSTALLED)  ## [EXP=<experiment> | RUN=<run folder> | SWEEP=<sweep>]: both papers' tables and figures of a run, of a sweep, or of all runs side by side
ifneq ($(SWEEP),)
	$(PY) -m evaluation.report --runs $(RUNS) --sweep $(SWEEP)
else
	@$(call MASKS_OF,$(REPORT_OF))
	$(PY) -m evaluation.report $(REPORT_OF)
endif

compare: $(INSTALLED)  ## A=<run or experiment> B=<run or experiment>: paired tests of two runs on the scans that both were tested on
	@test -n "$(A)" -a -n "$(B)" || { echo "error: name two runs: A=<run folder or experiment> B=<run folder or experiment>"; exit 2; }
	@$(call MASKS_OF,--runs $(RUNS) "$(A)" "$(B)")
	$(PY) -m evaluation.compare --runs $(RUNS) "$(A)" "$(B)"

test: $(INSTALLED)  ## run the tests but for the slow ones
	$(PY) -m pytest -m "not slow" $(ARGS)

test-all: $(INSTALLED)  ## run all tests, also those that kill, resume and start several processes
	$(PY) -m pytest $(ARGS)

lint: $(INSTALLED)  ## check style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

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
	@test ! -f "$(CKPT)" || $(PY) -m benchmarks.phantom_hardness --ckpt "$(CKPT)"

clean:  ## remove the environment, prepared arrays and caches; runs and cohorts stay
	rm -rf .venv prepared .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
