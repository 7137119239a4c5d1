import pytest
import torch

from quant.devices import find_device, memory_lacking, one_thread_each
from quant.errors import QuantError


def test_the_devices_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_device("cpu") == find_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device(None) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cuda", "cuda:1"):
        assert find_device(name) == torch.device(name)
    assert find_device(None) == torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cuda", "device 'cuda' is not here: torch sees 0 CUDA GPUs"),
        ("cuda:1", "device 'cuda:1' is not here: torch sees 0 CUDA GPUs"),
        ("cuda:256", "device 'cuda:256' is not here: torch sees 0 CUDA GPUs"),
        (torch.device("cuda:3"), "device 'cuda:3' is not here"),
        ("cuda:99999999999999", "device 'cuda:99999999999999' is none that torch knows"),
        ("x", "device 'x' is none that torch knows: say cpu, cuda or cuda:1"),
        ("", "device '' is none that torch knows"),
        ("gpu" * 5000, "device 'gpugpu"),
        ("meta", "device 'meta' holds no numbers"),
        ("xla", "device 'xla' is not here: torch has no use of it"),
        ("mkldnn", "device 'mkldnn' is not here"),
    ],
)
def test_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch, name: str | torch.device, says: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(QuantError) as found:
        find_device(name)
    assert str(found.value).startswith(says) and len(str(found.value)) < 300


def test_the_number_of_a_gpu_is_not_cut_to_eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(QuantError, match="'cuda:256' is not here: torch sees 1 CUDA GPUs"):
        find_device("cuda:256")


def test_a_lack_of_memory_is_known_and_says_what_to_do() -> None:
    with pytest.raises(RuntimeError) as of_the_cpu:
        torch.empty(2**60, dtype=torch.int8)
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), of_the_cpu.value):
        assert (memory_lacking(error) or "").startswith("out of memory")
    assert memory_lacking(RuntimeError("shapes do not match")) is None


def test_torch_has_its_threads_again_after_the_last_of_several_that_overlap() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second = one_thread_each(), one_thread_each()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_num_threads() == 1
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
