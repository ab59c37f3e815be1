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
    with pytest.raises(OptionError, match=f"{name} must be .*, received {value}"):
        FineTuneOptions(**wrong)


def test_zero_epochs_are_refused():
    with pytest.raises(OptionError, match="needs 1 epoch or more"):
        FineTuneOptions(epochs_upper=0, epochs_all=0)


def test_an_augmentation_out_of_range_is_named():
    with pytest.raises(OptionError, match=r"smallest_area must be .*, received 0"):
        AugmentationOptions(smallest_area=0)


def test_an_option_of_distillation_or_imitation_out_of_range_is_named():
    with pytest.raises(OptionError, match=r"answers must be .*, received 2"):
        DistillationOptions(answers=2)
    with pytest.raises(OptionError, match=r"steps must be .*, received 0"):
        ImitationOptions(steps=0)


def test_creating_options_does_not_import_tensorflow():
    code = "import sys; import edgetl.training as t; t.FineTuneOptions(); assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
