"""What the timings were made on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tests.optwrap.benchmarks.timing import Timer

ELEMENTS = 2**26  # 256 MiB of float32: beyond any cache


def describe(timer: Timer) -> dict[str, str]:
    """Return the processor, the versions and the measured bandwidth."""
    packages = ("torch", "torchvision", "mmengine", "lightning-fabric", "accelerate")
    described = {
        "device": torch.cuda.get_device_name() if timer.device.type == "cuda" else _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "clock": timer.clock.__name__,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "in-place bandwidth": f"{bandwidth(timer) / 1e9:.1f} GB/s",
    }
    return described | {name: _version(name) for name in packages}


def bandwidth(timer: Timer) -> float:
    """Return the bytes a second that an in-place multiplication reads and writes."""
    memory = torch.ones(ELEMENTS, device=timer.device)
    times = Timer(timer.device, 2.0, timer.clock).run({"mul": lambda: memory.mul_(1.0)})
    return 2 * memory.nbytes / times.seconds("mul").median


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed: left out"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
