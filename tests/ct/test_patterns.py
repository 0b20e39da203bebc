import numpy as np
import pytest

from ct import patterns

CODES = np.arange(-1, 11)


def test_every_code_and_group_has_a_name():
    assert sorted(patterns.NAME_OF_CODE) == sorted(patterns.GROUP_OF_CODE) == CODES.tolist()
    groups = set(patterns.GROUP_OF_CODE.values())
    assert groups == set(patterns.NAME_OF_GROUP) == {-1, 0, 1, 2, 3, 4}


def test_groups_are_those_of_the_paper():
    np.testing.assert_array_equal(patterns.groups_of(CODES), [-1, 0, 1, 1, 0, 0, 2, 3, 3, 4, 4, 4])


def test_infection_and_consolidation_keep_unlabelled():
    np.testing.assert_array_equal(patterns.infection_of(CODES), [-1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(patterns.consolidation_of(CODES), [-1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    assert patterns.infection_of(CODES).dtype == np.int8


def test_infection_is_groups_2_to_4_and_consolidation_group_4():
    groups = patterns.groups_of(CODES)
    np.testing.assert_array_equal(patterns.infection_of(CODES) == 1, groups >= 2)
    np.testing.assert_array_equal(patterns.consolidation_of(CODES) == 1, groups == 4)


@pytest.mark.parametrize("code", [-2, 11, 255])
def test_other_codes_are_refused(code):
    with pytest.raises(ValueError, match=r"expected -1\.\.10"):
        patterns.groups_of(np.array([0, code], dtype=np.int16))
