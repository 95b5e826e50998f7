"""scripts/study_mixstyle.py: a factor of the study that mixes styles, not contents, in training alone."""

from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import study_cells
import torch
from lightning import LightningModule
from study_mixstyle import MixStyle, statistics
from torch import Tensor, nn

STUDY = Path(__file__).parent.parent / "scripts" / "study.yaml"


def standardise(features: Tensor) -> Tensor:
    mean, deviation = statistics(features)
    return (features - mean) / deviation


def test_styles_are_mixed_among_images_in_training_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(OrderedDict(layer1=nn.Identity(), layer3=nn.Identity()))
    features = torch.randn(8, 3, 6, 6) * torch.rand(8, 3, 1, 1).add(0.5) + torch.randn(8, 3, 1, 1)
    callback, module = MixStyle(probability=1, alpha=1), cast(LightningModule, network)
    callback.on_fit_start(cast(Any, None), module)
    mixed = network.train()(features)
    for before, after in zip(statistics(features), statistics(mixed), strict=True):
        assert ((after >= before.amin(0) - 1e-5) & (after <= before.amax(0) + 1e-5)).all()
        assert not torch.allclose(before, after, atol=1e-2)
    torch.testing.assert_close(standardise(mixed), standardise(features), atol=1e-4, rtol=1e-4)
    assert torch.equal(network.eval()(features), features)
    callback.on_fit_end(cast(Any, None), module)
    assert torch.equal(network.train()(features), features)


def test_no_graph_repeats_what_the_first_step_has_drawn() -> None:
    shipped = study_cells.read_study(STUDY)
    recipes = [recipe for recipe in shipped.recipes.values() if any("MixStyle" in each for each in recipe)]
    assert recipes
    assert all(
        study_cells.compose(study_cells.merge(shipped.rounds["screening"].common, recipe)).model.cuda_graphs == "off"
        for recipe in recipes
    )
