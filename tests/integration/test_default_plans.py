"""nnU-Net's default plans: any kind of labels, every configuration."""

import pytest

from tests.integration.conftest import LABELS
from tests.integration.matrix import train_validate_predict

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("variant", LABELS)
def test_train_validate_predict(tmp_path, variant):
    train_validate_predict(tmp_path, variant, "ExperimentPlanner")
