import numpy as np
import pytest

from ct.grey_window import AUTO, GreyWindow, check_greys, describe_windows, unusual_windows


def test_greys_become_hu_in_equal_steps() -> None:
    hu = GreyWindow(-1100, 260).hu_of_greys()
    assert hu.dtype == np.int16
    np.testing.assert_array_equal(hu, np.rint(-1100 + np.arange(256) * 1360 / 255))


def test_what_is_declared_must_rise() -> None:
    check_greys((-1000, 200), "a.png")
    check_greys(AUTO, "a.png")
    with pytest.raises(ValueError, match=r"a\.png: grey 0 = 200 HU and grey 255 = 200 HU; expected the first lower"):
        check_greys((200, 200), "a.png")


def test_an_estimate_is_described_with_its_error() -> None:
    one = describe_windows([GreyWindow(-1104, 260, 34.4)])
    assert one.public == one
    assert "grey 0 = -1104 HU and grey 255 = 260 HU" in one
    assert "an error of about 34 HU" in one
    several = describe_windows([GreyWindow(-1104, 260, 34.4), GreyWindow(-1200, 400, 80)])
    assert "for each of 2 slices" in several
    assert "grey 0 = -1200 to -1104 HU and grey 255 = 260 to 400 HU, with errors of about 34 to 80 HU" in several


def test_unusual_windows() -> None:
    usual = GreyWindow(-1100, 300, 35)
    assert unusual_windows(()) == unusual_windows([GreyWindow(-1100, 300)] * 3) == unusual_windows([usual] * 5) == ()
    (unsure,) = unusual_windows([usual, usual, GreyWindow(-1100, 300, 120)])
    assert "the HU of 1 of 3 slices cannot be told from their tissues to within 75 HU (the worst: 120)" in unsure
    (apart,) = unusual_windows([usual] * 4 + [GreyWindow(-1100, 440, 35)])
    # At 0 HU, grey 200 of 255, the last one has 1540 * 200 / 255 - 1100 = 110 HU (rounded).
    assert "1 of 5 slices have windows that differ from the scan's median by more than 75 HU" in apart
    assert unusual_windows([usual] * 4 + [GreyWindow(-1100, 380, 35)]) == ()  # 63 HU there


def test_a_window_that_is_no_number_is_unusual() -> None:
    sentences = unusual_windows([GreyWindow(-1100, 300, 35), GreyWindow(-1100, 300, float("nan"))])
    assert "1 of 2 slices cannot be told" in sentences[0]
