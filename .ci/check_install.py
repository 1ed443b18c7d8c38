"""Import an installed sb3_esac, away from its checkout, and check that only what it needs comes along."""

import sys
from pathlib import Path

import sb3_esac

UNWANTED = ("matplotlib", "ray", "rl_zoo3", "mujoco", "ale_py", "dm_control", "pandas")

folder = Path(sb3_esac.__file__).parent
assert Path(sys.prefix) in folder.parents, f"imported from {folder}, outside of the environment {sys.prefix}"
assert hasattr(sb3_esac, "ESAC"), "sb3_esac.ESAC is missing"
for name in ("py.typed", "version.txt", *(f"zoo/hyperparams/{file}.yml" for file in ("esac", "esac_paper", "es"))):
    assert (folder / name).is_file(), f"{name} is not in the wheel"
assert sb3_esac.__version__ == (folder / "version.txt").read_text().strip(), sb3_esac.__version__
imported = [name for name in UNWANTED if name in sys.modules]
assert not imported, f"`import sb3_esac` also imports {', '.join(imported)}"
print(f"sb3_esac {sb3_esac.__version__} installs from its wheel and imports without any extra")
