"""How one call is timed: cold L2, events, order statistics; as benchmarks/harness/measure.cpp.

A call's launches are queued behind a kernel that spins, so that the host's own time is not in the
events. Calls under 25 us are timed by rotation: fifty of them back to back, each on a data set of
its own, so that the events' own cost is shared. Others are timed in a burst too, a few calls after
the GPU idled: nothing here reads whether the driver held the clock down, so it may have.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

# What is written before each cold call: this multiple of the L2, and no less than the least. As in
# the suite, its length is also the rest that a GPU at its power cap gets between two calls.
COLD_MULTIPLE = 3
LEAST_FLUSH_BYTES = 256 << 20
ROTATION_BELOW_US = 25.0
ROTATION_CALLS = 50
BURST_REST_S = 0.5
BURST_CALLS = 11
_WARM_UP_S = 0.1
_AGREEMENT = 0.02  # between the medians of two successive batches
_BATCH_S = 0.05
_MAX_BATCH = 32
_LONGEST_BLOCK_S = 0.05
_CEILING_WARM_UPS, _CEILING_SAMPLES = 3, 11
_CYCLES_PER_S = 2e9  # of the spin kernel; an H200's highest clock, rounded up


@dataclass(frozen=True)
class Summary:
    median: float
    low: float  # 95 % confidence interval of the median, from order statistics
    high: float
    cv: float  # standard deviation over mean


@dataclass(frozen=True)
class Rule:
    cap_s: float  # wall-clock bound of warm-up and sampling together, but for a burst's rest
    half_width: float = 0.005  # of the interval, relative to the median: stop when as tight
    min_samples: int = 11
    max_samples: int = 2001


@dataclass(frozen=True)
class Timing:
    cold_us: list[float]
    hot_us: list[float]
    rotated: bool
    floor_us: float  # what timing nothing reads by the same way
    burst_us: list[float] = field(default_factory=list)  # cold; empty where none was taken


def summarize(samples: list[float]) -> Summary:
    """Of at least one sample; with fewer than six the interval is their whole range."""
    ordered = np.sort(np.asarray(samples, dtype=float))
    count = len(ordered)
    spread = 1.96 * math.sqrt(count) / 2
    low = min(max(math.floor(count / 2 - spread) - 1, 0), count - 1)
    high = min(max(math.ceil(count / 2 + spread), 0), count - 1)
    deviation = float(ordered.std(ddof=1)) if count > 1 else 0.0
    mean = float(ordered.mean())
    return Summary(
        median=float(np.median(ordered)),
        low=float(ordered[low]),
        high=float(ordered[high]),
        cv=deviation / mean if mean > 0 else 0.0,
    )


def settled(samples: list[float], rule: Rule) -> bool:
    if len(samples) < rule.min_samples:
        return False
    summary = summarize(samples)
    return (summary.high - summary.low) / 2 <= rule.half_width * summary.median


def sample(
    draw: Callable[[int], list[float]],
    rule: Rule,
    until: float,
    now: Callable[[], float] = time.monotonic,
) -> list[float]:
    """draw(count) until the median is known, or as long as time allows; at least one sample."""
    samples: list[float] = []
    count = 1
    while True:
        before = now()
        samples += draw(count)
        cost = max((now() - before) / count, 1e-9)
        if settled(samples, rule) or now() + cost >= until:
            return samples
        left = rule.max_samples - len(samples)
        if left <= 0:
            return samples
        count = int(min(max(_BATCH_S / cost, 1), _MAX_BATCH, left))


class Timer:
    """Times calls on the GPU's default stream: extensions may launch there whatever is current."""

    def __init__(self, torch):
        self._torch = torch
        self.l2_bytes = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 64 << 20
        flush_bytes = max(COLD_MULTIPLE * self.l2_bytes, LEAST_FLUSH_BYTES)
        self._flush = torch.empty(flush_bytes, dtype=torch.uint8, device="cuda")
        self._host_s = {}
        empty = torch.zeros(1, device="cuda")
        self.floors_us = {
            calls: summarize(self._timed([empty.zero_] * calls, 51, cold=True)).median
            for calls in (1, ROTATION_CALLS)
        }

    def measure(self, call, replicate: Callable[[int], list | None], rule: Rule) -> Timing:
        """`call` launches the work; `replicate(n)` gives n such calls on data of their own, or None
        where they do not fit."""
        start = time.monotonic()
        warm_us = self._warm_up(call, start + rule.cap_s / 4)
        calls = replicate(ROTATION_CALLS) if warm_us < ROTATION_BELOW_US else None
        rotated = calls is not None
        if rotated:
            self._timed(calls, 1, cold=True)
        cold = calls if rotated else [call]
        hot = [call] * len(cold)
        cold_start = time.monotonic()
        cold_us = sample(
            lambda count: self._timed(cold, count, cold=True), rule, start + rule.cap_s * 3 / 4
        )
        cold_cost_s = (time.monotonic() - cold_start) / len(cold_us)
        hot_us = []
        hot_end = start + rule.cap_s * (1 if rotated else 7 / 8)
        if time.monotonic() + warm_us * 1e-6 < hot_end:
            hot_us = sample(lambda count: self._timed(hot, count, cold=False), rule, hot_end)
        burst_us = []
        left_s = start + rule.cap_s - time.monotonic()
        if not rotated and BURST_CALLS * cold_cost_s <= left_s:
            burst_us = self._burst(call)
        return Timing(cold_us, hot_us, rotated, self.floors_us[len(cold)], burst_us)

    def _burst(self, call) -> list[float]:
        """What the GPU does while nothing that ran before holds it back."""
        self._torch.cuda.synchronize()
        time.sleep(BURST_REST_S)
        return self._timed([call], BURST_CALLS, cold=True)

    def _warm_up(self, call, until: float) -> float:
        """Runs until two successive batches agree; the last median, us."""
        start = time.monotonic()
        previous = self._timed([call], 1, cold=False)[0]
        while time.monotonic() + previous * 1e-6 < until:
            count = int(min(max(_BATCH_S / max(previous * 1e-6, 1e-9), 1), _MAX_BATCH))
            current = summarize(self._timed([call], count, cold=False)).median
            agree = abs(current - previous) <= _AGREEMENT * current
            previous = current
            if agree and time.monotonic() - start >= _WARM_UP_S:
                break
        return previous

    def _timed(self, calls: list, count: int, cold: bool) -> list[float]:
        """`count` samples of the time of one of `calls`, us."""
        cuda = self._torch.cuda
        pairs = []
        for index in range(count):
            if cold:
                self._flush.fill_(index & 1)
            else:
                calls[0]()
            self._block(calls)
            start, stop = (cuda.Event(enable_timing=True) for _ in range(2))
            before = time.perf_counter()
            start.record()
            for call in calls:
                call()
            stop.record()
            self._host_s[len(calls)] = time.perf_counter() - before
            pairs.append((start, stop))
            # What is queued stays below the driver's limit, past which a launch waits for the GPU.
            stop.synchronize()
        return [start.elapsed_time(stop) * 1e3 / len(calls) for start, stop in pairs]

    def _block(self, calls: list) -> None:
        """Keeps the GPU busy, without touching memory, for twice as long as queueing took."""
        seconds = min(2 * self._host_s.get(len(calls), 1e-3) + 50e-6, _LONGEST_BLOCK_S)
        self._torch.cuda._sleep(int(seconds * _CYCLES_PER_S))


def ceilings(torch) -> tuple[float, float]:
    """What this device reaches: copy in GB/s, and a bf16 GEMM of an 8192 cube in TFLOP/s."""
    size, edge = 1 << 31, 8192
    source = torch.empty(size, dtype=torch.uint8, device="cuda").random_()
    a, b = (torch.randn(edge, edge, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    copy_us = _median_us(torch, torch.empty_like(source).copy_, source)
    gemm_us = _median_us(torch, torch.matmul, a, b)
    return 2 * size / copy_us * 1e-3, 2 * edge**3 / gemm_us * 1e-6


def _median_us(torch, call, *arguments) -> float:
    for _ in range(_CEILING_WARM_UPS):
        call(*arguments)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(_CEILING_SAMPLES + 1)]
    events[0].record()
    for event in events[1:]:
        call(*arguments)
        event.record()
    torch.cuda.synchronize()
    return 1e3 * float(np.median([a.elapsed_time(b) for a, b in itertools.pairwise(events)]))
