from pathlib import Path

from dicom_harness import edit, set_tags, write_series

from ct.read_dicom import read_dicom
from inference.without_names import without_names


def test_repairs_of_a_real_folder_name_no_file_and_no_series(tmp_path: Path) -> None:
    write_series(tmp_path / "DOE", BodyPartExamined="CHEST")
    write_series(tmp_path / "DOE" / "JANE")
    other = {
        "SeriesInstanceUID": "1.2.3",
        "SeriesDescription": "DOE JANE",
        "SeriesNumber": 7,
        "BodyPartExamined": "HEAD",
    }
    edit(tmp_path / "DOE" / "JANE", lambda dataset: set_tags(dataset, other))
    (tmp_path / "DOE" / "jane.txt").write_text("notes")
    *_, repairs = read_dicom(tmp_path)
    assert any("jane" in repair for repair in repairs)
    assert any("DOE JANE" in repair for repair in repairs)
    cleaned = [without_names(repair) for repair in repairs]
    assert not any("doe" in repair.lower() or "jane" in repair.lower() for repair in cleaned)
    assert "left out what is no DICOM image: 1 file" in cleaned


def test_other_repairs_stay_as_they_are() -> None:
    assert without_names("fractions of a HU were rounded") == "fractions of a HU were rounded"
