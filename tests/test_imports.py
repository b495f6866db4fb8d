"""Importing the project's modules changes nothing outside of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

PROGRAM = """
import importlib, os, pkgutil, random
import numpy, torch, ray.tune, torchattacks, sklearn.datasets, matplotlib.figure, scipy.stats  # may do as they like

def state():
    flags = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.backends.cudnn.benchmark
    return dict(os.environ), flags, random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state().tolist()

before, names = state(), []
for package in ("nas", "search_spaces", "searchers", "proxies", "experiments"):
    found = importlib.import_module(package)
    names += [each.name for each in pkgutil.walk_packages(found.__path__, package + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert len(names) > 100, names
assert state() == before
"""


def test_importing_all_modules_leaves_environment_and_global_states_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
