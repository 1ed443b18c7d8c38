"""One page of TensorBoard with the quantities that ``python -m sb3_esac.plot`` draws: the tab "Custom Scalars"."""

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

PAGE = "sb3_esac"

RETURNS = {
    "return": (
        "population/return_max",
        "population/return_mean",
        "agent/return_mean",
        "champion/return_mean",
        "eval/mean_reward",
    ),
    "episode length": (
        "population/length_mean",
        "population/episode_length_cap",
        "rollout/ep_len_mean",
        "eval/mean_ep_length",
    ),
    "sigma": ("population/sigma",),
}
HYBRID = {
    "agent: share or probability of an interval": ("agent/fraction", "agent/probability"),
    "winners from": ("population/winners_from_mean", "population/winners_from_winners", "population/winners_from_agent"),
    "losses": ("train/actor_loss", "train/critic_loss"),
}
MEAN = {"mean": ("es/step_norm", "es/mean_norm")}
COSTS = {
    "steps": ("time/population_timesteps", "time/probe_timesteps", "time/agent_timesteps"),
    "seconds": ("time/population_seconds", "time/agent_seconds", "time/gradient_seconds", "time/callback_seconds"),
}


def layout(has_agent: bool) -> dict[str, dict[str, list[str | list[str]]]]:
    """
    Group what is logged.

    :param has_agent: Whether there is a gradient agent beside the population.
    :return: Charts by name on one page, as ``SummaryWriter.add_custom_scalars`` takes them.
    """
    charts = {**RETURNS, **(HYBRID if has_agent else MEAN), **COSTS}
    if not has_agent:
        charts = {
            name: tuple(tag for tag in tags if "agent" not in tag and "gradient" not in tag) for name, tags in charts.items()
        }
    # Tags are regular expressions there.
    return {PAGE: {name: ["Multiline", [f"^{tag}$" for tag in tags]] for name, tags in charts.items()}}


def write_layout(logger: Logger, has_agent: bool) -> None:
    """
    Tell TensorBoard how to group what a run logs; nothing is done where it does not log there.

    :param logger: The run's logger.
    :param has_agent: Whether there is a gradient agent beside the population.
    """
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.add_custom_scalars(layout(has_agent))
