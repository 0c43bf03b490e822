"""The golden checkpoint's plan and samples."""

import pytest

from exeunt.export.families.ofa.family import OfaFamily
from exeunt.export.plan import BundlePlan
from tests.support.ofa import GOLDENS, Arrays, golden_expected, golden_inputs


@pytest.fixture(scope="package")
def plan() -> BundlePlan:
    return OfaFamily().describe(GOLDENS)


@pytest.fixture(scope="package")
def expected() -> Arrays:
    return golden_expected()


@pytest.fixture(scope="package")
def raw() -> Arrays:
    return golden_inputs()
