"""How long whole pipelines take, stage by stage: all in one process, round by round, in a shuffled order.

The first call and compilation are apart. Kernels and peak memory have passes of their own: a profiler slows what it
watches, and the most memory of one pipeline is seen only with no other there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from quant.eval.bench.timing import Run, interleave
from quant.eval.progress import Progress, silent
from quant.eval.speed import device as devices
from quant.eval.speed import shares
from quant.eval.speed.passes import Tools, attempted, one_by_one, reason_of, tools_for
from quant.eval.speed.stages import STAGES, STEP, CallTimes, summary, time_call

FORMAT_VERSION = 1
#: Makes the keyword arguments of one call of a pipeline, new ones each time: a call uses its generator up, and may
#: write into tensors.
Call = Callable[[Any], Mapping[str, Any]]
#: Kernels of scaled_dot_product_attention for all pipelines: the first of them that takes an input is used. A VAE's
#: heads are too wide for the first, and a mask keeps text encoders from it.
ATTENTION = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


def time_pipelines(
    loaders: Mapping[str, Callable[[], Any]],
    calls: Sequence[Call],
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
    rounds: int = 5,
    compiled: bool = False,
    progress: Progress = silent,
    tools: Tools | None = None,
) -> dict[str, Any]:
    """Times all pipelines and returns the speed results: plain data for JSON, in seconds and bytes.

    One video a call. Round i makes call i modulo N with every pipeline; the first call, kernels and memory are those of
    call 0. All are on the device together while they are timed. A pipeline that raises, such as one that runs out of
    memory, has the reason in "failed" and no stages; one whose kernels or peak memory could not be had has the reason
    in "notes". A stage that no call has is absent.

    Args:
        loaders: make the pipelines, on the device that is to be measured, the original first; they are called once
            more for the pass that measures memory.
        calls: N, each with the same noise for every pipeline; what they read of files is read before the clock starts.
        settings: what all calls are given, plain data, for the results.
        rounds: calls of each that are timed, after the first.
        compiled: run all denoisers under `torch.compile`.
        progress: called after every call.
        tools: what to measure with; None is what the device has.

    Raises:
        ValueError: no call, or no round.
    """
    if not calls:
        raise ValueError("nothing to time: at least one call")
    if rounds < 1:
        raise ValueError(f"rounds {rounds}: at least one")
    timing = _Timing(loaders, calls, progress)
    timing.load()
    device = timing.device()
    used = tools_for(device) if tools is None else tools
    name, before = devices.name_of(device), used.read(device)
    with sdpa_kernel(list(ATTENTION), set_priority=True):
        timing.first_calls(used, compiled)
        timing.in_rounds(used, rounds)
        after = used.read(device)
        timing.profile(used)
        timing.weigh(used, compiled)
    return {
        "format_version": FORMAT_VERSION,
        "device": devices.describe(device, name, before, after),
        "label": devices.label_of(device, name),
        "attention": " > ".join(each.name for each in ATTENTION),
        "compiled": compiled,
        "rounds": rounds,
        "settings": dict(settings),
        "what": {
            "first_call_s": "the first call end to end, with compilation and whatever else happens once",
            "compile_s": "the first call less the median of the later ones; null where nothing is compiled",
            "input_encoder": "images and videos through image encoders and the VAE's encoder",
            "step": "a denoising step with its guidance; it begins where the one before it ends, or an encoding since",
            "peak_memory_bytes": devices.NO_MEMORY if used.peak_memory is None else devices.MEMORY,
            "kernels": shares.ON_GPU if device.type == "cuda" else shares.ON_CPU,
        },
        "models": {each: found.to_dict(compiled) for each, found in timing.found.items()},
        "estimated": None,
    }


class _Found:
    """What is known of one pipeline so far."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.calls: list[CallTimes] = []
        self.kernels: list[dict[str, Any]] | None = None
        self.peak: int | None = None
        self.failed: str | None = None
        self.notes: list[str] = []

    def to_dict(self, compiled: bool) -> dict[str, Any]:
        stages = compile_s = None
        if self.failed is None:
            every = {stage: [s for each in self.calls for s in each.by_stage()[stage]] for stage in STAGES}
            stages = {stage: summary(seconds) for stage, seconds in every.items() if seconds}
            if compiled and self.first is not None:
                compile_s = self.first - summary([each.end_to_end for each in self.calls])["median"]
        return {
            "first_call_s": self.first,
            "compile_s": compile_s,
            "stages": stages,
            "peak_memory_bytes": self.peak,
            "kernels": self.kernels,
            "failed": self.failed,
            "notes": self.notes,
        }


class _Timing:
    """The passes over all pipelines, in order; one that fails is dropped, and its memory with it."""

    def __init__(
        self,
        loaders: Mapping[str, Callable[[], Any]],
        calls: Sequence[Call],
        progress: Progress,
    ) -> None:
        self.found = {name: _Found() for name in loaders}
        self._loaders, self._calls, self._progress = loaders, calls, progress
        self._pipelines: dict[str, Any] = {}

    def load(self) -> None:
        def load(name: str) -> None:
            self._pipelines[name] = self._loaders[name]()

        for name in one_by_one("loading", list(self._loaders), self._progress):
            self._drop(name, reason_of(partial(load, name)), "loading: ")

    def device(self) -> torch.device:
        """The device they run on; the CPU where none could be loaded, and then the results hold every reason."""
        # `pipeline.device` would be "cpu" for one whose parts are brought to the GPU in turn.
        return next((torch.device(each._execution_device) for each in self._pipelines.values()), torch.device("cpu"))

    def first_calls(self, tools: Tools, compiled: bool) -> None:
        def first(name: str) -> None:
            if compiled:
                tools.compile(self._pipelines[name])
            self.found[name].first = self._timed(name, 0, tools).end_to_end

        for name in one_by_one("first call of", list(self._pipelines), self._progress):
            self._drop(name, reason_of(partial(first, name)), "first call: ")

    def in_rounds(self, tools: Tools, rounds: int) -> None:
        done = 0

        def once(name: str) -> None:
            nonlocal done
            calls = self.found[name].calls
            calls.append(self._timed(name, len(calls), tools))
            done += 1
            self._progress(f"timing {name}", done, rounds * len(runs))

        def timer(run: Run) -> float:
            run()
            return 0.0  # the stages' times are kept, and the whole is one of them

        runs = {name: partial(attempted, partial(once, name)) for name in self._pipelines}
        for name, reason in interleave(runs, timer, rounds=rounds, warm_ups=0).failed.items():
            self._drop(name, reason)
        for name in self._pipelines:
            if not any(call.by_stage()[STEP] for call in self.found[name].calls):
                self._note(name, "steps", "the pipeline does not report them, and has no scheduler that takes them")

    def profile(self, tools: Tools) -> None:
        def look(name: str) -> None:
            pipeline = self._pipelines[name]
            self.found[name].kernels = tools.kernels(pipeline, self._calls[0](pipeline))

        for name in one_by_one("profiling", list(self._pipelines), self._progress):
            self._note(name, "kernels", reason_of(partial(look, name)))

    def weigh(self, tools: Tools, compiled: bool) -> None:
        names = list(self._pipelines)
        self._pipelines.clear()
        measure = tools.peak_memory
        if measure is None:
            return

        def load(name: str) -> Any:
            pipeline = self._loaders[name]()
            if compiled:
                tools.compile(pipeline)
            return pipeline

        def weigh(name: str) -> None:
            self.found[name].peak = measure(partial(load, name), self._run)

        for name in one_by_one("memory of", names, self._progress):
            self._note(name, "peak memory", reason_of(partial(weigh, name)))

    def _run(self, pipeline: Any) -> None:
        pipeline(**self._calls[0](pipeline))

    def _timed(self, name: str, index: int, tools: Tools) -> CallTimes:
        pipeline = self._pipelines[name]
        return time_call(pipeline, self._calls[index % len(self._calls)](pipeline), tools.clock)

    def _drop(self, name: str, reason: str | None, when: str = "") -> None:
        if reason is not None:
            self.found[name].failed = when + reason
            self._pipelines.pop(name, None)
            devices.release()

    def _note(self, name: str, what: str, reason: str | None) -> None:
        if reason is not None:
            self.found[name].notes.append(f"{what}: {reason}")
