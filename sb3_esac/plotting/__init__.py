"""
Pictures of run folders: ``python -m sb3_esac.plot FOLDER``.

matplotlib is an extra (``plots``) and is imported only when something is drawn.
"""

from sb3_esac.plotting.figure import draw_run, plot_comparison, plot_run
from sb3_esac.plotting.reading import Run, gradient_intervals, read_progress, read_run

__all__ = ["Run", "draw_run", "gradient_intervals", "plot_comparison", "plot_run", "read_progress", "read_run"]
