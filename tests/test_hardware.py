"""Cores, precision and devices."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from weldnet.errors import InputError
from weldnet.hardware import PROCESSES_PER_CORE, SPINS, WAITS, available_cores, check_processes, shorten_waits
from weldnet.hardware.devices import best_precision, choose_device, exact_float32, use_available_cores

MINE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", MINE), ("100000 100000", 1), ("50000 100000", 1), ("900000000 100000", MINE), ("", MINE)],
)
def test_a_containers_quota_counts(quota: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert available_cores(tmp_path / "cpu.max") == cores


def test_without_a_container_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "none") == MINE


def test_torch_never_gets_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(MINE + 3)
        use_available_cores()
        assert torch.get_num_threads() == available_cores()
        torch.set_num_threads(MINE + 3)
        monkeypatch.setenv("OMP_NUM_THREADS", "9")
        use_available_cores()
        assert torch.get_num_threads() == MINE + 3
    finally:
        torch.set_num_threads(before)


def test_openmp_reads_that_threads_sleep_soon_where_they_wait(tmp_path: Path) -> None:
    # --help needs no torch, and sets the variable all the same.
    code = "from weldnet.commands.train import main\ntry:\n    main()\nfinally:\n    import torch"
    environment = {name: value for name, value in os.environ.items() if name not in WAITS}
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "max_epochs" in done.stdout
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)) == {SPINS}


@pytest.mark.parametrize("name", ["", *WAITS, "torch"])
def test_a_variable_of_the_users_own_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {name: "PASSIVE"} if name in WAITS else {}
    monkeypatch.setattr(os, "environ", dict(environment))
    if name != "torch":
        monkeypatch.delitem(sys.modules, "torch")
    shorten_waits()
    assert os.environ == (environment if name else {"GOMP_SPINCOUNT": SPINS})


@pytest.mark.parametrize("bf16", [True, False])
def test_bfloat16_only_where_the_hardware_multiplies_it(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16})
    assert best_precision("auto") == best_precision("cpu") == ("bf16-mixed" if bf16 else "32-true")
    assert best_precision("mps") == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not bf16)
    assert best_precision("auto") == best_precision("gpu") == ("32-true" if bf16 else "bf16-mixed")


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    for wrong in ("gpu", "cuda:99", "tpu"):
        with pytest.raises(InputError, match=wrong):
            choose_device(wrong)


def test_processes_are_bounded_by_the_cores() -> None:
    most = PROCESSES_PER_CORE * available_cores()
    check_processes("x", most)
    with pytest.raises(InputError, match=f"x={most + 1}: allowed are 1 to {most} processes, 4 for each core"):
        check_processes("x", most + 1)


def test_exact_float32_is_set_by_one_api_and_set_back() -> None:
    """Mixed, torch's two ways to set TF32 warn, and then raise; here warnings are errors."""
    cudnn = torch.backends.cudnn
    operators = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [each.fp32_precision for each in operators]
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(exact_float32())
        assert [each.fp32_precision for each in operators] == ["ieee"] * 3
        assert torch.get_float32_matmul_precision() == "highest"
        second.enter_context(exact_float32())
        # Threads end in any order.
        first.close()
        assert [each.fp32_precision for each in operators] == ["ieee"] * 3
    assert [each.fp32_precision for each in operators] == before
    # What the older ones say of it can still be asked.
    assert torch.backends.cudnn.allow_tf32 is True
