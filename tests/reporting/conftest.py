"""A study that several tests of this folder read."""

import pytest
import studies

from features.study.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return studies.three(tmp_path_factory.mktemp("words") / "study")
