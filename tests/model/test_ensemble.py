"""An ensemble: the mean of its members' probabilities, whatever their logits are."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax

from weldnet.model.ensemble import Ensemble
from weldnet.model.network import WeldNet


@pytest.fixture(scope="module")
def members() -> list[WeldNet]:
    torch.manual_seed(0)
    return [WeldNet("resnet18", 3).eval() for _ in range(2)]


@pytest.mark.parametrize("scale", [1.0, 30.0, 3000.0])
def test_the_mean_of_the_probabilities(members: list[WeldNet], scale: float) -> None:
    images = torch.randint(256, (4, 3, 40, 20), dtype=torch.uint8)
    with torch.inference_mode():
        parts = [member.features(images) * scale for member in members]
        logits = [member.head(part).double().numpy() for member, part in zip(members, parts, strict=True)]
        ensemble = Ensemble(members)
        assert torch.equal(ensemble.features(images) * scale, torch.cat(parts, dim=1))
        found = ensemble.head(torch.cat(parts, dim=1)).double().numpy()
    expected = logsumexp([log_softmax(each, axis=1) for each in logits], axis=0) - np.log(2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        softmax(found, axis=1), np.mean([softmax(each, axis=1) for each in logits], axis=0), atol=1e-6
    )


def test_members_that_see_different_defects_do_not_add_up_to_a_sound_weld(members: list[WeldNet]) -> None:
    with torch.inference_mode():
        for member, seen in zip(members, ([0.4, 0.6, 1e-9], [0.4, 1e-9, 0.6]), strict=True):
            member.head.weight.zero_()
            member.head.bias.copy_(torch.tensor(seen).log())
        probabilities = Ensemble(members)(torch.zeros(1, 3, 40, 20)).softmax(dim=1)
    torch.testing.assert_close(probabilities[0], torch.tensor([0.4, 0.3, 0.3]))
