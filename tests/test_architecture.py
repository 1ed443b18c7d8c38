"""Imports point downward only, and what is optional is imported where it is used."""

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "sb3_esac"

# Layer -> the layers it may import, besides itself. A layer is the first name below the package: a sub-package or a module.
DOWNWARD = {
    "evolution": set(),
    "evaluation": {"evolution"},
    "envs": set(),
    "plotting": set(),
    "plot": {"plotting"},
    # The parts of a model know those that they are handed, and not each other
    "agent": {"evaluation", "evolution"},
    "champion": {"evaluation", "evolution"},
    "budget": {"evaluation", "evolution"},
    "callbacks": {"evaluation", "evolution"},
    # Modules that have no row of their own (algorithm.py, saving.py, ...): what the algorithms have in common
    "common": {"agent", "champion", "evaluation", "evolution"},
    "esac": {"agent", "budget", "callbacks", "champion", "common", "evaluation", "evolution"},
    "es": {"common", "evaluation", "evolution"},
    "__init__": {"esac", "es", "envs"},
    "recording": {"__init__", "common", "envs"},
    "video": {"recording"},
    "zoo": {"__init__", "esac", "es", "common", "callbacks", "evaluation", "evolution", "envs", "plotting", "recording"},
}

# The mathematics knows neither environments nor Stable-Baselines3
EVOLUTION_MAY_USE = {PACKAGE, "numpy", "torch", *sys.stdlib_module_names}

# Optional or heavy, or a folder beside the package -> where it may be imported as a module is loaded
OPTIONAL = {
    "ray": "evaluation.ray",
    "rl_zoo3": "zoo",
    "matplotlib": None,
    "ale_py": None,
    "dm_control": None,
    "shimmy": None,
    "tensorboard": None,
    "mujoco": None,
}
NEVER = {"experiments", "examples", "tests"}


@dataclass(frozen=True)
class Import:
    """
    One imported name.

    :param target: Dotted name, with the imported name if there is one: it may be a module or what is in it.
    :param at_load: Whether it is imported as the module is loaded, not only when a function is called, or by a type checker.
    :param line: Line number.
    """

    target: str
    at_load: bool
    line: int


def is_type_checking(node: ast.AST) -> bool:
    """Whether this is ``if TYPE_CHECKING:``, whose body never runs."""
    if not isinstance(node, ast.If):
        return False
    name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", None)
    return name == "TYPE_CHECKING"


def find_imports(module: str, source: str, *, is_package: bool = False) -> list[Import]:
    """List what a module imports, relative names made absolute; what is for the type checker alone is known to it as well."""
    found: list[Import] = []
    package = module.split(".") if is_package else module.split(".")[:-1]

    def visit(node: ast.AST, at_load: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, at_load, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, node.module] if node.module else base)
            found.extend(Import(f"{prefix}.{alias.name}", at_load, node.lineno) for alias in node.names)
        elif is_type_checking(node):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, at_load)
        else:
            in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                visit(child, at_load and not in_function)

    visit(ast.parse(source), True)
    return found


def layer_of(target: str, layers: set[str]) -> str:
    """The layer that a dotted name inside the package belongs to; a name of the package's own is its ``__init__``."""
    name = target.split(".")[1] if "." in target else "__init__"
    if name not in layers:
        return "__init__"
    return name if name in DOWNWARD else "common"


def is_inside(name: str, place: str | None) -> bool:
    """Whether a dotted name below the package is a module, or in a sub-package, of that name."""
    return place is not None and f"{name}.".startswith(f"{place}.")


def violations(module: str, source: str, layers: set[str], *, is_package: bool = False) -> list[str]:
    """
    Say what is wrong with a module's imports.

    :param module: Dotted name of the module, the package's first.
    :param source: Its text.
    :param layers: Names of the modules and sub-packages that stand directly in the package.
    :param is_package: Whether it is the ``__init__`` of a package.
    :return: One line for each import that must not be.
    """
    layer, name, wrong = layer_of(module, layers), module.partition(".")[2], []
    for found in find_imports(module, source, is_package=is_package):
        top, _, below = found.target.partition(".")
        where = f"{module}:{found.line} imports {found.target}"
        if top == PACKAGE:
            target = layer_of(found.target, layers)
            if target != layer and target not in DOWNWARD[layer]:
                wrong.append(f"{where}: {layer} may import {sorted(DOWNWARD[layer]) or 'nothing'} of this package")
            for optional, home in OPTIONAL.items():
                if found.at_load and is_inside(below, home) and not is_inside(name, home):
                    wrong.append(f"{where}, which needs {optional}, as it is loaded")
        elif top in NEVER:
            wrong.append(f"{where}, which is not installed with the package")
        elif layer == "evolution" and top not in EVOLUTION_MAY_USE:
            wrong.append(f"{where}: evolution is numpy and torch alone")
        elif found.at_load and top in OPTIONAL and not is_inside(name, OPTIONAL[top]):
            wrong.append(f"{where} as it is loaded")
    return wrong


FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}
LAYERS = {name.split(".")[1] for name in FILES if "." in name} | set(DOWNWARD) - {"__init__", "common"}


@pytest.mark.parametrize("module", FILES)
def test_imports(module):
    path = FILES[module]
    assert not violations(module, path.read_text(), LAYERS, is_package=path.name == "__init__.py")


def test_modules_are_found():
    assert {PACKAGE, f"{PACKAGE}.evolution", f"{PACKAGE}.evolution.operators"} <= set(FILES)
    found = find_imports(f"{PACKAGE}.evolution.population", FILES[f"{PACKAGE}.evolution.population"].read_text())
    assert f"{PACKAGE}.evolution.noise.perturbations" in {each.target for each in found if each.at_load}


def test_every_layer_is_there():
    """A rule about something that is gone, or has another name by now, forbids nothing."""
    assert set(DOWNWARD) - {"__init__", "common"} <= {name.split(".")[1] for name in FILES if "." in name}


def cycles(sources: dict[str, tuple[str, bool]]) -> set[str]:
    """
    Find modules that import each other, in a function or for the type checker alone as well, and those that import these.

    :param sources: Text of each module, and whether it is the ``__init__`` of a package.
    """
    graph = {}
    for module, (source, is_package) in sources.items():
        found = find_imports(module, source, is_package=is_package)
        # "from a.b import c" needs a.b.c if that is a module, and a.b otherwise
        targets = {each.target if each.target in sources else each.target.rpartition(".")[0] for each in found}
        graph[module] = targets & set(sources) - {module}
    # Take away what imports nothing that is left, until nothing is left but cycles
    while leaves := [module for module, targets in graph.items() if not targets & set(graph)]:
        for module in leaves:
            del graph[module]
    return set(graph)


def test_no_cycles():
    """Nor within a layer: a module can be understood, and loaded, before those that import it."""
    assert not cycles({module: (path.read_text(), path.name == "__init__.py") for module, path in FILES.items()})


@pytest.mark.parametrize(
    "back",
    [
        "from sb3_esac.algorithm import f",
        "def g():\n    from sb3_esac import algorithm",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sb3_esac.algorithm import f",
    ],
)
def test_cycles_are_found(back):
    sources = {"sb3_esac.algorithm": "from sb3_esac.saving import g", "sb3_esac.saving": back, "sb3_esac.removed": ""}
    packages = {name: (source, False) for name, source in sources.items()}
    assert cycles(packages) == {"sb3_esac.algorithm", "sb3_esac.saving"}
    assert not cycles({**packages, "sb3_esac.saving": ("from sb3_esac import removed", False)})


# -- the test itself ------------------------------------------------------------------------------------------------------

SAMPLE_LAYERS = {*DOWNWARD, "algorithm", "saving", "experimental"} - {"__init__", "common"}
SAMPLE_PACKAGES = {"sb3_esac", "sb3_esac.agent", "sb3_esac.evolution", "sb3_esac.evaluation", "sb3_esac.zoo"}


@pytest.mark.parametrize(
    "module, source",
    [
        ("sb3_esac.evolution.operators", "from sb3_esac.evaluation.rollout import EpisodeResult"),
        ("sb3_esac.evolution.operators", "import sb3_esac.evaluation"),
        ("sb3_esac.evolution.operators", "import sb3_esac"),
        ("sb3_esac.evolution.operators", "from sb3_esac import ESAC"),
        ("sb3_esac.evolution.operators", "from .. import evaluation"),
        ("sb3_esac.evolution.operators", "from ..evaluation import rollout"),
        ("sb3_esac.evolution", "from ..evaluation import rollout"),
        ("sb3_esac.evolution.operators", "def f():\n    from sb3_esac.esac import ESAC"),
        ("sb3_esac.evolution.operators", "import gymnasium as gym"),
        ("sb3_esac.evolution.operators", "from stable_baselines3.common.utils import constant_fn"),
        ("sb3_esac.evolution.operators", "def f():\n    import stable_baselines3"),
        ("sb3_esac.evaluation.evaluator", "from sb3_esac.callbacks import HindsightCrossover"),
        ("sb3_esac.evaluation.evaluator", "from sb3_esac.agent.sharing import SharedExperience"),
        ("sb3_esac.evaluation.arena", "from sb3_esac.champion import Champion"),
        ("sb3_esac.evaluation.arena", "from sb3_esac.algorithm import PopulationAlgorithm"),
        ("sb3_esac.agent.learner", "from sb3_esac.budget import Budget"),
        ("sb3_esac.agent.learner", "from sb3_esac.champion import Champion"),
        ("sb3_esac.agent.learner", "from sb3_esac.saving import Part"),
        ("sb3_esac.champion", "from sb3_esac.agent.learner import Learner"),
        ("sb3_esac.champion", "from sb3_esac.budget import Budget"),
        ("sb3_esac.budget", "from sb3_esac.agent.learner import Learner"),
        ("sb3_esac.budget", "from sb3_esac.saving import Part"),
        ("sb3_esac.algorithm", "from sb3_esac.budget import Budget"),
        ("sb3_esac.algorithm", "from sb3_esac.callbacks import Operator"),
        ("sb3_esac.algorithm", "def f():\n    from sb3_esac.esac import ESAC"),
        ("sb3_esac.es", "from sb3_esac.agent.learner import Learner"),
        ("sb3_esac.callbacks", "from sb3_esac.esac import ESAC"),
        ("sb3_esac.callbacks", "from sb3_esac import agent"),
        ("sb3_esac.agent.building", "from sb3_esac.esac import ESAC"),
        ("sb3_esac.agent", "from sb3_esac import ESAC"),
        # What only a type checker reads is known all the same
        ("sb3_esac.callbacks", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sb3_esac.esac import ESAC"),
        ("sb3_esac.champion", "import typing\nif typing.TYPE_CHECKING:\n    from sb3_esac.algorithm import Selection"),
        ("sb3_esac.evolution.operators", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import gymnasium"),
        ("sb3_esac.experimental", "from .es import ES"),
        ("sb3_esac.esac", "from sb3_esac.es import ES"),
        ("sb3_esac.es", "from sb3_esac.esac import ESAC"),
        ("sb3_esac.esac", "from sb3_esac.plotting import plot"),
        ("sb3_esac.esac", "from sb3_esac.envs.cyclic_mdp import CyclicMDP"),
        ("sb3_esac.envs.cyclic_mdp", "from sb3_esac.evolution import operators"),
        ("sb3_esac.plotting", "from sb3_esac.esac import ESAC"),
        ("sb3_esac.plotting.figure", "from sb3_esac import ESAC"),
        ("sb3_esac.plot", "from sb3_esac.algorithm import PopulationAlgorithm"),
        ("sb3_esac", "from sb3_esac.zoo import register"),
        ("sb3_esac", "from . import plotting"),
        ("sb3_esac.zoo.train", "import experiments.table_1"),
        ("sb3_esac.esac", "def f():\n    from tests import helpers"),
        # Loaded with the module, however it is written
        ("sb3_esac.evaluation.subproc", "import ray"),
        ("sb3_esac.evaluation.raycast", "import ray"),
        ("sb3_esac.evaluation.subproc", "import os, ray.util as util"),
        ("sb3_esac.plotting", "from matplotlib import pyplot as plt"),
        ("sb3_esac.plotting", "import matplotlib.pyplot as plt"),
        ("sb3_esac.esac", "try:\n    import tensorboard\nexcept ImportError:\n    pass"),
        ("sb3_esac.esac", "try:\n    import os\nexcept ImportError:\n    import mujoco"),
        ("sb3_esac.envs.atari", "class A:\n    import ale_py"),
        ("sb3_esac.envs.atari", "if True:\n    with open('a') as f:\n        import shimmy"),
        ("sb3_esac.envs.dmc", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import dm_control"),
        ("sb3_esac.esac", "import rl_zoo3"),
        ("sb3_esac.zoology", "import rl_zoo3"),
        ("sb3_esac.zoo.train", "import ray"),
        ("sb3_esac.zoo.plots", "import matplotlib"),
        # Through a module of ours that needs it
        ("sb3_esac.esac", "from sb3_esac.evaluation.ray import RayEvaluator"),
        ("sb3_esac.evaluation", "from sb3_esac.evaluation import ray"),
        ("sb3_esac.evaluation.evaluator", "from . import ray"),
    ],
)
def test_forbidden_imports_are_found(module, source):
    assert violations(module, source, SAMPLE_LAYERS, is_package=module in SAMPLE_PACKAGES)


@pytest.mark.parametrize(
    "module, source",
    [
        ("sb3_esac.evolution.operators", "import math\nimport numpy as np\nimport torch as th\nfrom . import noise"),
        ("sb3_esac.evolution.population", "from sb3_esac.evolution.noise import perturbations"),
        ("sb3_esac.evaluation.evaluator", "from sb3_esac.evolution.noise import episode_seed\nimport gymnasium"),
        ("sb3_esac.evaluation.evaluator", "from sb3_esac.evaluation.rollout import EpisodeResult"),
        ("sb3_esac.callbacks", "from sb3_esac.evolution import operators\nfrom sb3_esac.evaluation import parameters"),
        (
            "sb3_esac.agent.building",
            "from sb3_esac.agent.sharing import shared\nfrom sb3_esac.evaluation.rollout import Transitions",
        ),
        ("sb3_esac.esac", "from sb3_esac import agent, budget, callbacks\nfrom stable_baselines3 import SAC"),
        ("sb3_esac.algorithm", "from sb3_esac.agent.learner import Learner\nfrom sb3_esac.champion import Champion"),
        ("sb3_esac.champion", "from sb3_esac.evaluation.arena import Arena"),
        ("sb3_esac.es", "from .evaluation import evaluator\nfrom .algorithm import PopulationAlgorithm"),
        ("sb3_esac", "from sb3_esac.esac import ESAC\nfrom sb3_esac.es import ES\nfrom .envs import cyclic_mdp"),
        ("sb3_esac.zoo.train", "import rl_zoo3.train\nfrom sb3_esac import ESAC\nfrom sb3_esac.plotting import plot"),
        ("sb3_esac.zoo", "import rl_zoo3"),
        ("sb3_esac.evaluation.ray", "import ray\nfrom sb3_esac.evaluation.evaluator import Evaluator"),
        ("sb3_esac.zoo.train", "from sb3_esac.zoo.registration import register"),
        # Only when it is asked for
        ("sb3_esac.esac", "def f():\n    from sb3_esac.evaluation.ray import RayEvaluator\n    import tensorboard"),
        ("sb3_esac.plotting", "class A:\n    async def f(self):\n        import matplotlib.pyplot"),
        # Never at run time
        (
            "sb3_esac.callbacks",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sb3_esac.evolution import noise",
        ),
        ("sb3_esac.plotting", "import typing\nif typing.TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
        # Names that only look alike
        ("sb3_esac.esac", "import rayleigh\nimport mujoco_py"),
    ],
)
def test_other_imports_are_allowed(module, source):
    assert not violations(module, source, SAMPLE_LAYERS, is_package=module in SAMPLE_PACKAGES)


# -- the package, loaded --------------------------------------------------------------------------------------------------

LOAD = """
import sb3_esac, sys
assert sb3_esac.__file__, "the package has no __init__.py"
assert not [name for name in hidden if sys.modules[name] is not None]
for name in getattr(sb3_esac, "__all__", ()):
    getattr(sb3_esac, name)
import importlib
for name in modules:
    importlib.import_module(name)
print("all of", len(modules))
"""


def test_package_needs_stable_baselines3_alone():
    """``import sb3_esac``, and every module but the optional ones, where nothing optional can be imported."""
    modules = [name for name in FILES if not any(is_inside(name.partition(".")[2], home) for home in OPTIONAL.values())]
    assert f"{PACKAGE}.evolution.population" in modules
    # None in sys.modules makes an import fail as if nothing were installed
    hide = f"import sys; hidden, modules = {list(OPTIONAL)}, {modules}; sys.modules.update(dict.fromkeys(hidden))"
    process = subprocess.run(
        [sys.executable, "-c", hide + LOAD], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == f"all of {len(modules)}"
