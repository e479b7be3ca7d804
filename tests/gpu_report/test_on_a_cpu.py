"""The tests of a GPU run on a CPU too, so that what is wrong with the tests themselves shows on every machine."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# They ask CUDA's own functions, which know nothing of a CPU.
GPU_ALONE = {"test_flash_attention_may_run_on_full_crops"}


def test_each_test_of_a_gpu_runs_on_a_cpu_too():
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/cuda"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    on = {"cpu": set(), "cuda": set(), "": set()}
    for line in collected.stdout.splitlines():
        if "::" in line:
            name, _, cases = line.partition("::")[2].partition("[")
            on[next((device for device in ("cuda", "cpu") if device in cases.strip("]").split("-")), "")].add(name)
    assert on["cuda"], collected.stdout + collected.stderr
    assert on["cuda"] == on["cpu"]
    assert on[""] == GPU_ALONE
