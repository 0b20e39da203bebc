"""The study of EM from any label: every variant is a configuration that train.py takes, and the table counts right."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from harness import EXPERIMENTS

from evaluation.em_study import RELABEL, VARIANTS, options_of, records, table_of
from phantom.mixed.write_mixed import TABLES
from train import main


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_a_configuration(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variant = VARIANTS[name]
    assert variant.table in TABLES
    (tmp_path / "variant.yaml").write_text(yaml.safe_dump(options_of(variant, tmp_path)))
    configs = (EXPERIMENTS / "base.yaml", EXPERIMENTS / "any_label.yaml", tmp_path / "variant.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["fit", *(f"--config={config}" for config in configs), "--print_config"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["data"]["init_args"]["cohort"] == str(tmp_path / f"{variant.table}.csv")
    for key, value in variant.model.items():
        if key == "priors":
            priors = [weighed["prior"] for weighed in config["model"]["init_args"]["priors"]]
            assert [prior["class_path"] for prior in priors] == [one["prior"]["class_path"] for one in value]
        else:
            assert config["model"]["init_args"][key] == value
    relabel = [one for one in config["trainer"]["callbacks"] if one["class_path"] == RELABEL]
    assert [one["init_args"]["after"] for one in relabel] == [1]
    assert relabel[0]["init_args"]["every"] == variant.relabel.get("every", "epoch")


def test_the_mean_of_groups_and_its_interval_by_patient(tmp_path: Path) -> None:
    run = tmp_path / "hard" / "seed1" / "any_label" / "latest"
    run.mkdir(parents=True)
    rng = np.random.default_rng(0)
    scans = pd.DataFrame({"scan_id": [f"s{number}" for number in range(8)]})
    for group in (2, 3, 4):
        for part in ("tp", "fp", "fn"):
            scans[f"group_{group}_{part}"] = rng.integers(1, 50, 8)
    scans.to_csv(run / "scans.csv", index=False)
    total = {name: scans[name].sum() for name in scans if name != "scan_id"}
    iou = {
        group: total[f"group_{group}_tp"] / sum(total[f"group_{group}_{part}"] for part in ("tp", "fp", "fn"))
        for group in (2, 3, 4)
    }
    figures = {f"group_{group}/iou_pooled": float(value) for group, value in iou.items()}
    (run / "metrics.json").write_text(json.dumps(figures | {"opacity/iou_pooled": 0.7, "fuzzy/ece": 0.1}))
    (row,) = records(tmp_path, ["any_label", "hard"], [0, 1]).to_dict("records")
    assert (row["variant"], row["seed"]) == ("hard", 1)
    assert row["mean of groups"] == pytest.approx(np.mean(list(iou.values())))
    assert 0 < row["low"] < row["mean of groups"] < row["high"] < 1
    table = table_of(records(tmp_path, ["hard"], [1]))
    assert f"| hard E-step | 0.700 | {iou[2]:.3f} |" in table
