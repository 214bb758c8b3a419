"""The limit of a machine: what its processor has, how fast it multiplies matrices, how near a work comes to that."""

import math
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from d2host.engine.precision import Precision, processor_features

TELLING = ("avx2", "avx512_f", "avx512_bf16", "amx_tile", "amx_bf16", "bf16", "sve")  # features worth a mention
SIDES = (4096, 1024, 1024)  # of the products that rate a machine: tokens by channels by channels
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "linear", "convolution", "conv_transpose", "scaled_dot_product", "mkldnn")


def matmul_rate(precision: Precision, device: str = "cpu", seconds: float = 1.0) -> float:
    """FLOP/s of large matrix products in a precision, with torch's present threads: the best within ``seconds``."""
    rows, inner, columns = SIDES
    left, right = (torch.randn(shape, device=device).to(precision.dtype) for shape in ((rows, inner), (inner, columns)))
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        left @ right
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * math.prod(SIDES) / best


def flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products, convolutions and attention that a call runs."""
    attention = {  # a CPU's, which torch's counter leaves out
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda gradient, q, k, v, *_, **__: sdpa_backward_flop_count(gradient, q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        function()
    return counter.get_total_flops()


def share_of_limit(function: Callable[[], Any], seconds: float, precision: Precision, device: str = "cpu") -> float:
    """What a call that takes so long reaches of the rate of large matrix products in that precision."""
    return flops(function) / seconds / matmul_rate(precision, device)


def share_in_products(function: Callable[[], Any]) -> float:
    """Share of a call's time that is spent in matrix products, convolutions and attention, from a profile."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        function()
    events = profiled.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    named = ((event, event.key.removeprefix("aten::").lstrip("_")) for event in events)
    return sum(event.self_cpu_time_total for event, name in named if name.startswith(PRODUCTS)) / total


def machine(precisions: Iterable[Precision] = (Precision.FP32, Precision.BF16), device: str = "cpu") -> str:
    """The processor, its features that matter, threads, torch, and its measured rates, in a line."""
    model = torch.cuda.get_device_name() if device == "cuda" else _cpu_model()
    features = sorted(processor_features(device).intersection(TELLING))
    rates = ", ".join(f"{matmul_rate(each, device) / 1e9:.0f} GFLOP/s in {each.value}" for each in precisions)
    threads = f"{torch.get_num_threads()} threads, " if device == "cpu" else ""
    return f"{model} ({', '.join(features)}), {threads}torch {torch.__version__}; matrix products: {rates}"


def _cpu_model() -> str:
    """As Linux calls it, elsewhere as Python does."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
