"""The model card and the methods section of a model, written from its manifest and from nothing else.

The headings follow what journals ask for: CLAIM (Mongan et al., Radiol. Artif. Intell. 2020; updated 2024) and
TRIPOD+AI (Collins et al., BMJ 2024). What a manifest does not hold is listed as missing, for the authors to fill in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.measured_figures import measured_tables
from evaluation.tables import markdown

CARD, METHODS = "model_card.md", "methods.md"
FIGURES = {
    "dice_mean": "Dice, mean",
    "dice_pooled": "Dice, pooled",
    "iou_pooled": "IOU, pooled",
    "relative_volume": "RV",
}
# What no file of a run can know.
UNKNOWN = {
    "data": (
        "inclusion and exclusion criteria, and dates of the examinations",
        "age, sex and disease of the patients",
        "scanners, dose and reconstruction",
        "who drew the labels, with what experience and instructions",
        "ethics approval and consent",
    ),
    "use": ("intended use, users and setting", "registration and protocol", "funding and interests"),
}
Manifest = Mapping[str, Any]


def model_card(manifest: Manifest) -> str:
    """Return the card of a model, Markdown."""
    classes = _findings(manifest)
    parts = [
        f"# Model card: {manifest.get('experiment') or manifest['task']}",
        "For research. No medical device: no diagnosis may rest on it.",
        f"It segments {classes} in chest CT (task `{manifest['task']}`).",
        "## Model",
        _bullets(_model_rows(manifest)),
        "## Trained on",
        _bullets(_data_rows(manifest)),
        "## Figures",
        _figures(manifest),
        "## Limits",
        _limits(manifest),
        "## Missing",
        "What the files of the training do not say, and a reader of this card must be told:",
        _missing(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def methods(manifest: Manifest) -> str:
    """Return the methods section of a paper on this model, Markdown, as far as its files know it."""
    run = manifest.get("run") or {}
    parts = [f"# Methods: {manifest.get('experiment') or manifest['task']}", "## Data", _data_text(manifest)]
    parts += ["## Preprocessing", _preprocessing_text(manifest), "## Model and training", _training_text(manifest)]
    parts += ["## Evaluation", _evaluation_text(run.get("test")), _figures(manifest)]
    parts += ["## To be filled in", _missing(manifest)]
    return "\n\n".join(parts) + "\n"


def _bullets(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in rows)


def _slices(manifest: Manifest) -> str:
    count = manifest["preprocessing"]["context_slices"]
    return "one slice" if count == 1 else f"{count} adjacent slices"


def _findings(manifest: Manifest) -> str:
    if manifest["task"] == "opacity":
        return ", ".join(leaf["name"] for leaf in manifest["classes"]["leaves"][1:])
    return "infection and consolidation" if manifest["task"] == "consolidation" else manifest["task"]


def _model_rows(manifest: Manifest) -> list[list[str]]:
    network, pre = manifest["architecture"], manifest["preprocessing"]
    arguments = ", ".join(f"{name} {value}" for name, value in network["init_args"].items())
    return [
        ["network", f"`{network['class_path']}`{f' ({arguments})' if arguments else ''}"],
        ["input", f"{_slices(manifest)} of {pre['size_px']} x {pre['size_px']} pixels"],
        ["values", pre["units"]],
        ["lungs", pre["lungs"]],
        ["weights", f"`model.safetensors`, SHA-256 `{manifest['sha256']['model.safetensors']}`"],
        ["made from", f"a best.ckpt of SHA-256 `{manifest['checkpoint_sha256']}`"],
        ["written with", ", ".join(f"{name} {version}" for name, version in manifest["written_with"].items())],
        ["licence", manifest.get("licence") or "not stated"],
    ]


def _data_rows(manifest: Manifest) -> list[list[str]]:
    trained_on = manifest["trained_on"]
    counts = [f"{trained_on[name]} {name}" for name in ("scans", "patients", "sites") if name in trained_on]
    rows = [["training", ", ".join(counts) or "not stated"]]
    data = (manifest.get("run") or {}).get("data") or {}
    if data:
        kind = "synthetic: no scan of a patient" if data["synthetic"] else "not synthetic by its files"
        rows += [["scans", kind], ["list of scans and splits", f"SHA-256 `{data['cohort_sha256']}`"]]
        rows += [["made by", data["made_by"]]] if "made_by" in data else []
        rows += [["as sites stand", data["sites_are"]]] if "sites_are" in data else []
        rows += [[f"split {name}", _split(split)] for name, split in data["splits"].items()]
        rows += [] if data["refused"] is None else [["refused by the checks", str(data["refused"])]]
    return rows


def _split(split: Mapping[str, Any]) -> str:
    return f"{split['scans']} scans ({', '.join(f'{site} {count}' for site, count in split['sites'].items())})"


def _figures(manifest: Manifest) -> str:
    test = (manifest.get("run") or {}).get("test")
    parts = []
    if test:
        table = [
            [key.rpartition("/")[0], FIGURES[key.rpartition("/")[2]], _figure(value), str(value["scans"])]
            for key, value in test["figures"].items()
        ]
        parts.append(markdown(["test", "figure", "value (95 % interval)", "scans"], table))
    validation = {key: value for key, value in manifest["validation"].items() if not key.endswith("_n")}
    if validation:
        table = [
            [key.rpartition("/")[0], _number(value), str(manifest["validation"].get(f"{key}_n", "-"))]
            for key, value in validation.items()
        ]
        parts.append(markdown(["validation", "Dice, mean", "scans"], table))
    measured = manifest.get("measured") or {}
    if measured:
        parts += ["Measured afterwards:", measured_tables(measured)]
    return "\n\n".join(part.strip() for part in parts) or "None are stored with the model."


def _figure(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "undefined: no scan has it"
    interval = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.3f}{interval}"


def _number(value: float | None) -> str:
    return "undefined: no scan has it" if value is None else f"{value:.3f}"


def _limits(manifest: Manifest) -> str:
    lines = list((manifest.get("run") or {}).get("limits", []))
    lines.append("The model knows lungs as its training scans show them; scans unlike those are flagged, not refused.")
    calibration = manifest.get("calibration")
    if calibration:
        share, patients = f"{calibration['coverage']:.0%}", calibration["patients"]
        kept = f"for {share} of patients like the {patients} of validation"
        lines.append(f"Volumes come with intervals that hold the truth {kept}.")
    else:
        lines.append("Volumes come without intervals: the model was not calibrated (`make calibrate`).")
    if not manifest["training_set"]:
        lines.append("The model does not know its training set, so scans unlike it are not flagged.")
    return "\n".join(f"- {line}" for line in lines)


def _missing(manifest: Manifest) -> str:
    run = manifest.get("run") or {}
    data = run.get("data") or {}
    unknown = [*(UNKNOWN["data"] if not data.get("synthetic") else ()), *UNKNOWN["use"]]
    if not run:
        unknown.insert(0, "the run: settings of the training, splits, test figures (export the folder of a run)")
    elif not run.get("test"):
        unknown.insert(0, "figures on the test scans of its own cohort")
    if not manifest.get("licence"):
        unknown.append("the licence of the weights (`--licence`)")
    return "\n".join(f"- [ ] {line}" for line in unknown)


def _data_text(manifest: Manifest) -> str:
    data = (manifest.get("run") or {}).get("data") or {}
    if not data:
        return "The files of this model do not say which scans it was trained and tested on."
    kind = "synthetic chest CT scans" if data["synthetic"] else "chest CT scans"
    splits = "; ".join(f"{name}: {_split(split)}" for name, split in data["splits"].items())
    patients = manifest["trained_on"].get("patients")
    of = f" Training scans were of {patients} patients." if patients else ""
    made = f" They were made by {data['made_by']}." if "made_by" in data else ""
    made += f" As sites stand {data['sites_are']}." if "sites_are" in data else ""
    refused = "" if data["refused"] is None else f"; {data['refused']} were refused"
    return (
        f"We used {kind}, divided by patient: {splits}.{of}{made} Scans went through automatic checks of geometry "
        f"and grey values{refused}. The list of scans and splits has the SHA-256 {data['cohort_sha256']}."
    )


def _preprocessing_text(manifest: Manifest) -> str:
    pre = manifest["preprocessing"]
    return (
        f"Scans were {pre['in_plane']} with size_px = {pre['size_px']}; {pre['slice_mm']}. The network saw "
        f"{_slices(manifest)}, with values {pre['units']}. Lungs: {pre['lungs']}."
    )


def _training_text(manifest: Manifest) -> str:
    training = (manifest.get("run") or {}).get("training")
    network = manifest["architecture"]
    text = f"The network was {network['class_path']} with {_settings(network['init_args'])}."
    if not training:
        return f"{text} The files of this model do not say how it was trained."
    steps = training["max_steps"]
    length = f"{steps} steps" if steps and steps > 0 else f"{training['max_epochs']} epochs"
    kept = training.get("kept")
    length += f" (the weights are those after {kept['epochs']} epochs, {kept['steps']} steps)" if kept else ""
    optimizer, schedule = training["optimizer"], training["lr_scheduler"]
    named = _named(optimizer) if optimizer else "an optimizer that is not stated"
    rate = f", with the schedule {schedule['class_path'].rpartition('.')[2]}" if schedule else ""
    return (
        f"{text} It was trained by {training['module']} for {length} in batches of {training['batch_size']} slices on "
        f"{training['devices']} device(s) in {training['precision'] or 'a precision that is not stated'}, seed "
        f"{training['seed']}, by {named}{rate}. "
        f"Settings: {_settings(training['settings'])}."
    )


def _named(chosen: Mapping[str, Any]) -> str:
    return f"{chosen['class_path'].rpartition('.')[2]} ({_settings(chosen['init_args'])})"


def _settings(values: Mapping[str, Any] | None) -> str:
    stated = [f"{name} {_plain(value)}" for name, value in (values or {}).items() if value not in (None, "", [])]
    return ", ".join(stated) or "its defaults"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return str(value)


def _evaluation_text(test: Mapping[str, Any] | None) -> str:
    if not test:
        return "The files of this model hold no test figures."
    sites = ", ".join(f"{site} {count}" for site, count in test["sites"].items())
    return (
        f"The model was tested on {test['scans']} scans ({sites}), inside the lungs on the prepared grid. Dice, "
        "mean, is over the scans that have the finding; pooled figures are of one table of counts over all scans; RV "
        "is predicted over true volume. Intervals are 95 % percentile intervals of "
        f"{test['draws']} bootstrap resamples of {test['drawn']}."
    )
