"""The gradient check of the engine's own targets on a GPU, by central differences along two directions."""

import os

import pytest

from minivae.gradcheck.compare import examine
from minivae.gradcheck.ours import targets
from minivae.gradcheck.problem import Settings

pytestmark = pytest.mark.gpu
TARGETS = list(targets.walk())
if os.environ.get("GPU_SMOKE"):
    TARGETS = TARGETS[::40]


@pytest.mark.parametrize("kernels", ["reference", "fused"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_gradients_on_the_device_are_right(target, kernels):
    result = examine(targets.build(target, kernels, 0, "cupy"), Settings(max_entries=0, directions=2))
    assert result.ok, result.hints
