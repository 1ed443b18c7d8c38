"""
Offspring on a Ray cluster: `backend="ray"` starts one on this machine, "ray:auto" or "ray://host:port" joins another.

The result is the same as with any other backend. Needs the extra `ray`.
"""

import argparse

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_esac import ES


def main() -> None:
    """Train on two workers, and without, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=float, default=100_000)
    steps = parser.parse_args().steps

    models = {}
    for backend, n_workers in (("ray", 2), ("lockstep", None)):
        model = ES("MlpPolicy", "Pendulum-v1", backend=backend, n_workers=n_workers, seed=0)
        models[backend] = model.learn(steps)
        print(f"{backend}: {model.population_timesteps / model.seconds['population']:,.0f} steps per second")
    same = (models["ray"].population.mean == models["lockstep"].population.mean).all()
    print(f"the same result: {same}")
    mean, std = evaluate_policy(models["ray"], make_vec_env("Pendulum-v1", seed=1), n_eval_episodes=10)
    print(f"return: {mean:.1f} +/- {std:.1f}")


if __name__ == "__main__":
    main()
