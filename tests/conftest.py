"""What every test stands on: two cores, no network, no cache but its own."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def two_cores() -> None:
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def own_caches(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("WELDNET_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
