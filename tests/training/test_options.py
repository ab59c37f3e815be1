from __future__ import annotations

import subprocess
import sys

import pytest

from edgetl.errors import OptionError
from edgetl.training import AugmentationOptions, DistillationOptions, FineTuneOptions, ImitationOptions


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": 0.0}, {"batch_size": 0}, {"train_scale": 2.0}, {"patience": 0}, {"label_smoothing": -0.1}],
)
def test_an_option_out_of_range_is_named_with_its_value(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(OptionError, match=f"{name} is {value}; choose"):
        FineTuneOptions(**wrong)


def test_no_epoch_at_all_is_refused():
    with pytest.raises(OptionError, match="needs an epoch"):
        FineTuneOptions(epochs_upper=0, epochs_all=0)


def test_an_augmentation_out_of_range_is_named():
    with pytest.raises(OptionError, match="smallest_area is 0"):
        AugmentationOptions(smallest_area=0)


def test_an_option_of_distillation_or_imitation_out_of_range_is_named():
    with pytest.raises(OptionError, match="answers is 2"):
        DistillationOptions(answers=2)
    with pytest.raises(OptionError, match="steps is 0"):
        ImitationOptions(steps=0)


def test_filling_the_options_loads_no_tensorflow():
    code = "import sys; import edgetl.training as t; t.FineTuneOptions(); assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
