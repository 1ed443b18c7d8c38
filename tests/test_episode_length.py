"""Offspring whose episodes are cut short by a schedule."""

import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
from helpers import ALGORITHMS, Counted, Drift, Tell, counted_steps, differences, drift, keep_log, make_model, state_of
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_esac import ES, ESAC
from sb3_esac.evaluation.episode_caps import check_budget
from sb3_esac.evaluation.random_play import RandomPlayer, time_limit
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength, phase_ends, phase_weights


class Count(gym.Env):
    """Ends after 20 steps and pays 1 for each."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.full(2, self.steps / 20, np.float32), 1.0, self.steps == 20, False, {}


class Dones(BaseCallback):
    """Writes down who ended an episode after how many steps, and whether it was a truncation."""

    def __init__(self):
        super().__init__()
        self.episodes, self.length = [], 0

    def _on_step(self):
        self.length += 1
        if self.locals["dones"][0]:
            truncated = bool(self.locals["infos"][0]["TimeLimit.truncated"])
            self.episodes.append((self.model.agent_timesteps, self.length, truncated))
            self.length = 0
        return True


@pytest.mark.parametrize("overlap", [False, True])
def test_the_schedule_cuts_offspring_and_nobody_else(overlap):
    def schedule(remaining):
        return 5 if remaining > 0.5 else 50

    callback = Dones()
    options = dict(agent_fraction=0.5, champion_episodes=0, share_experience=0.5, overlap=overlap)
    model = make_model(ESAC, Count(), seed=0, episode_length_schedule=schedule, **options)
    model.learn(600, callback=callback)
    lengths = {(length, truncated) for _, length, truncated in callback.episodes}
    assert lengths == {(5, True), (20, False)}
    store = model.replay_buffer.population_store
    ends = store.dones[: store.size(), 0] == 1
    cut = store.timeouts[: store.size(), 0] == 1
    # An episode that was cut bootstraps, one that ended does not.
    assert (cut & ends).any() and (ends & ~cut).any() and not (cut & ~ends).any()
    own = model.replay_buffer
    agent_ends = np.flatnonzero(own.dones[: own.size(), 0] == 1)
    assert set(np.diff(agent_ends)) == {20}


def test_the_schedule_cuts_members_of_es():
    callback = Dones()
    model = make_model(
        ES, Count(), seed=0, episode_length_schedule=lambda remaining: 5 if remaining > 0.5 else 50, champion_episodes=0
    )
    model.learn(200, callback=callback)
    # Five generations of four, then as many as fill the rest.
    assert callback.episodes == [(0, 5, True)] * 20 + [(0, 20, False)] * 8
    assert model.population.generation == 7 and model.num_timesteps == 260


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_probes_are_whole(algorithm):
    model = make_model(algorithm, Count(), seed=0, episode_length_schedule=lambda remaining: 5, champion_episodes=2)
    model.learn(400)
    assert model.champion.record is not None and (model.champion.record.returns == 20).all()


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match=r"`episode_length_schedule` must be a function .* not 100"):
        make_model(ESAC, Count(), episode_length_schedule=100)


# -- progressive episode lengths: the arithmetic --------------------------------------------------------------------------

LENGTHS = st.integers(1, 5000)
TIMES = st.sampled_from(["constant", "doubling"])


@given(first=LENGTHS, horizon=LENGTHS)
def test_lengths_double_until_the_horizon(first, horizon):
    first = min(first, horizon)
    lengths = ProgressiveEpisodeLength(first_length=first).phases(horizon).lengths
    assert len(lengths) == math.ceil(math.log2(horizon / first)) + 1
    assert list(lengths) == [min(horizon, first * 2**k) for k in range(len(lengths))]
    assert lengths[-1] == horizon


@given(time_schedule=TIMES, n_phases=st.integers(1, 12), budget=st.integers(1, 10**9))
def test_budget_is_shared_out_to_the_step(time_schedule, n_phases, budget):
    ends = phase_ends(phase_weights(time_schedule, n_phases), budget)
    assert ends[-1] == budget
    for k, steps in enumerate(np.diff([0, *ends]).tolist()):
        exact = budget / n_phases if time_schedule == "constant" else budget * 2**k / (2**n_phases - 1)
        assert abs(steps - exact) < 1 + 1e-6
    if time_schedule == "doubling" and n_phases > 1:
        assert 2 * (ends[-1] - ends[-2]) >= budget


@given(time_schedule=TIMES, steps=st.lists(st.integers(0, 10_000), min_size=1), budget=st.integers(1, 10_000))
def test_phase_is_where_the_budget_is_and_never_goes_back(time_schedule, steps, budget):
    phases = ProgressiveEpisodeLength(time_schedule, first_length=3).phases(100)
    ends = phase_ends(phase_weights(time_schedule, len(phases.lengths)), budget)
    for n_steps in steps:
        after = phases.advance(n_steps, budget)
        assert after.phase == max(phases.phase, sum(n_steps >= end for end in ends[:-1]))
        phases = after


def test_first_length_may_be_a_fraction_or_measured():
    assert ProgressiveEpisodeLength(first_length=0.25).phases(20).lengths == (5, 10, 20)
    assert ProgressiveEpisodeLength(first_length=1.0).phases(20).lengths == (20,)
    assert ProgressiveEpisodeLength(first_length=1).phases(4).lengths == (1, 2, 4)
    assert ProgressiveEpisodeLength().phases(20, random_length=11.0).lengths == (6, 12, 20)
    assert ProgressiveEpisodeLength(divisor=4).phases(20, random_length=20.0).lengths == (5, 10, 20)


@pytest.mark.parametrize("time_schedule, at", [("constant", [60, 120]), ("doubling", [60, 180])])
def test_on_the_clock_the_first_phase_lasts_as_long_as_is_said(time_schedule, at):
    phases = ProgressiveEpisodeLength(time_schedule, first_length=5, phase_seconds=60).phases(20)
    for k, seconds in enumerate(at):
        early = phases.advance(10**9, 10, seconds - phases.seconds - 1)
        phases = early.advance(10**9, 10, 1)
        assert (early.phase, phases.phase) == (k, k + 1)
    assert phases.advance(10**9, 10, 10**6).is_last


@pytest.mark.parametrize("phase_steps, budget", [(1000, 5), (1000, np.inf), (np.int64(1000), 5), (1 / 30, 30_000)])
@pytest.mark.parametrize(
    "time_schedule, ends", [("constant", [1000, 2000, 3000, 4000]), ("doubling", [1000, 3000, 7000, 15_000])]
)
def test_in_steps_the_first_phase_lasts_as_long_as_is_said(time_schedule, ends, phase_steps, budget):
    phases = ProgressiveEpisodeLength(time_schedule, first_length=5, phase_steps=phase_steps).phases(80)
    for k, end in enumerate(ends):
        early, phases = phases.advance(0, budget).advance(end - 1, budget), phases.advance(0, budget).advance(end, budget)
        assert (early.phase, phases.phase) == (k, k + 1)
    assert phases.cap == 80 and phases.is_last and phases.seconds == 0


@pytest.mark.parametrize("time_schedule, phase_steps, n_reached", [("constant", 0.1, 10), ("doubling", 1 / 30, 5)])
@pytest.mark.parametrize("random_steps", [0, 5000])
def test_the_papers_phases_are_reached_whatever_the_horizon(time_schedule, phase_steps, n_reached, random_steps):
    """One hour each, or 20 minutes and twice as long each time, of ten hours: the rest is the last phase's."""
    for horizon in (10**9, 20 * 2 ** (n_reached - 1)):
        phases = ProgressiveEpisodeLength(time_schedule, 20, phase_steps=phase_steps).phases(horizon)
        spent, budget, reached = np.arange(0, 30_000, 100), 30_000 + random_steps, []
        for steps in spent:
            phases = phases.advance(random_steps + int(steps), budget)
            reached.append(phases.phase)
        shares = np.bincount(reached) / len(spent)
        assert len(shares) == n_reached
        np.testing.assert_allclose(shares, [0.1] * 10 if n_reached == 10 else [1 / 30, 2 / 30, 4 / 30, 8 / 30, 0.5])


def test_only_shares_of_the_budget_need_one():
    for arguments in (dict(phase_steps=10), dict(phase_seconds=10)):
        assert check_budget(np.inf, ProgressiveEpisodeLength(**arguments)) == np.inf
    for arguments in (dict(phase_steps=0.1), dict()):
        with pytest.raises(ValueError, match=r"must be finite, not inf, .* unless an integer `phase_steps`, or"):
            check_budget(np.inf, ProgressiveEpisodeLength(**arguments))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(time_schedule="linear"), r"`time_schedule` must be .* not 'linear'"),
        (dict(first_length=0), r"`first_length` must be .* not 0"),
        (dict(first_length=1.5), r"`first_length` must be .* not 1\.5"),
        (dict(first_length=True), r"`first_length` must be .* not True"),
        (dict(first_length=float("nan")), r"`first_length` must be .* not nan"),
        (dict(first_length=30, horizon=20), r"`first_length` must be at most the horizon, 20, not 30"),
        (dict(horizon=2.0), r"`horizon` must be .* not 2\.0"),
        (dict(divisor=0), r"`divisor` must be .* not 0"),
        (dict(n_random_episodes=0), r"`n_random_episodes` must be .* not 0"),
        (dict(phase_seconds=-1), r"`phase_seconds` must be .* not -1"),
        (dict(phase_steps=0), r"`phase_steps` must be an integer >= 1 \(steps\), a float in \(0, 1\) .* not 0"),
        (dict(phase_steps=1.0), r"`phase_steps` must be .* not 1\.0"),
        (dict(phase_steps=0.0), r"`phase_steps` must be .* not 0\.0"),
        (dict(phase_steps=True), r"`phase_steps` must be .* not True"),
        (dict(phase_steps="1/10"), r"`phase_steps` must be .* not '1/10'"),
        (dict(phase_steps=5, phase_seconds=2), r"`phase_steps` must be None beside `phase_seconds=2`, not 5"),
    ],
)
def test_wrong_arguments_of_the_schedule_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveEpisodeLength(**kwargs)


def test_what_the_schedule_says_by_itself():
    """E(0) is the mean of ten random episodes, halved; the clock does not run unless it is asked for."""
    schedule = ProgressiveEpisodeLength()
    assert (schedule.time_schedule, schedule.n_random_episodes, schedule.divisor) == ("doubling", 10, 2.0)
    phases = ProgressiveEpisodeLength(first_length=5).phases(20)
    assert phases.seconds == 0 and phases.advance(1, 10).seconds == 0


def test_schedule_is_a_value():
    schedule = ProgressiveEpisodeLength("constant", first_length=5)
    assert pickle.loads(pickle.dumps(schedule)) == schedule != ProgressiveEpisodeLength("doubling", first_length=5)
    with pytest.raises(AttributeError):
        schedule.horizon = 3


# -- in a run -------------------------------------------------------------------------------------------------------------


def limited(n_steps=12, **kwargs):
    return gym.wrappers.TimeLimit(Drift(n_steps=n_steps, **kwargs), n_steps)


def caps_of(model, total, **kwargs):
    """(steps at the beginning, cap) of each generation, and the longest episode of offspring as logged."""
    begun = []
    model.learn(total, callback=Tell(on_generation=lambda m: begun.append((m.num_timesteps, m.arena.caps.cap))), **kwargs)
    return begun


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("time_schedule", ["constant", "doubling"])
def test_a_run_goes_through_its_phases(algorithm, time_schedule):
    schedule = ProgressiveEpisodeLength(time_schedule, first_length=3)
    model = make_model(algorithm, limited(), seed=0, episode_length_schedule=schedule)
    log = keep_log(model)
    begun = caps_of(model, 900)
    ends = phase_ends(phase_weights(time_schedule, 3), 900)
    assert begun[0] == (0, 3)
    assert [cap for _, cap in begun] == [(3, 6, 12)[sum(steps >= end for end in ends[:2])] for steps, _ in begun]
    assert {cap for _, cap in begun} == {3, 6, 12}
    assert [entry["population/episode_length_cap"] for entry in log] == [cap for _, cap in begun]
    assert all(entry["population/length_mean"] <= cap for entry, (_, cap) in zip(log, begun, strict=True))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("phase_steps", [60, 0.1])
def test_phases_of_steps_begin_when_random_play_is_over(algorithm, phase_steps):
    # A dict, as in a file of the zoo.
    schedule = dict(time_schedule="doubling", n_random_episodes=6, divisor=4, phase_steps=phase_steps)
    model = make_model(algorithm, limited(edge=np.inf), seed=0, episode_length_schedule=schedule)
    begun = caps_of(model, 72 + 600)
    # Random play takes more than the first phase lasts.
    assert begun[0] == (72, 3) and {cap for _, cap in begun} == {3, 6, 12}
    assert [cap for _, cap in begun] == [(3, 6, 12)[sum(steps - 72 >= end for end in (60, 180))] for steps, _ in begun]
    caps = model.arena.caps
    assert caps.phases.begin == 72 and 72 + sum(caps.steps_by_cap(model.num_timesteps).values()) == model.num_timesteps
    # Counted from zero, they begin anew.
    model.learn(80)
    assert caps_of(model, 72 + 60)[0] == (72, 3) and model.arena.caps.phases.begin == 72


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_schedule_that_is_given_on_the_way_begins_there(algorithm):
    model = make_model(algorithm, limited(), seed=0).learn(100)
    begin = model.num_timesteps
    model.episode_length_schedule = ProgressiveEpisodeLength("constant", first_length=6, phase_steps=100)
    begun = caps_of(model, 400, reset_num_timesteps=False)
    assert [cap for _, cap in begun] == [6 if steps < begin + 100 else 12 for steps, _ in begun] and begun[0] == (begin, 6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_from_the_horizon_on_it_is_a_run_without_schedule(algorithm):
    runs = []
    for schedule in (None, ProgressiveEpisodeLength(first_length=1.0), dict(first_length=12)):
        model = make_model(algorithm, limited(), seed=2, episode_length_schedule=schedule)
        model.learn(300).learn(300)
        runs.append({part: value for part, value in state_of(model).items() if part != "episode_length"})
    assert model.episode_length_schedule == ProgressiveEpisodeLength(first_length=12)
    assert not differences(runs[0], runs[1]) and not differences(runs[0], runs[2])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_random_play_is_counted_and_told(algorithm):
    env = make_vec_env(lambda: Counted(limited(edge=np.inf)), 1)
    schedule = ProgressiveEpisodeLength(n_random_episodes=3)
    model = make_model(algorithm, env, seed=0, episode_length_schedule=schedule)
    heard = []
    begun = []
    callback = Tell(lambda m: heard.append(m.num_timesteps), lambda m: begun.append((m.num_timesteps, m.arena.caps.cap)))
    model.learn(300, callback=callback)
    # Never ends early: random play lasts the horizon, three times.
    assert begun[0] == (36, 6)
    assert heard == list(range(1, model.num_timesteps + 1))
    assert counted_steps(env) == model.num_timesteps
    first = model.arena.caps.phases
    model.learn(20, reset_num_timesteps=False)
    assert model.arena.caps.phases.lengths == first.lengths and model.arena.caps.phases.is_last


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_callback_stops_random_play(algorithm):
    schedule = ProgressiveEpisodeLength(n_random_episodes=3)
    model = make_model(algorithm, limited(), seed=0, episode_length_schedule=schedule)
    stop = Tell(on_step=lambda m: m.num_timesteps < 4)
    model.learn(300, callback=stop)
    assert model.num_timesteps == 4 and stop.ended and model.population.generation == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_random_play_that_takes_the_budget_is_all_there_is(algorithm):
    schedule = ProgressiveEpisodeLength(n_random_episodes=4)
    model = make_model(algorithm, limited(edge=np.inf), seed=0, episode_length_schedule=schedule)
    model.learn(40)
    assert model.num_timesteps == 48 and model.population.generation == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("first_length, phase_steps", [(3, None), (None, None), (None, 0.3)])
def test_resumed_in_the_middle_of_a_phase(algorithm, first_length, phase_steps, tmp_path):
    schedule = ProgressiveEpisodeLength("constant", first_length=first_length, n_random_episodes=3, phase_steps=phase_steps)
    kept = {}

    def save(model):
        if model.num_timesteps >= 450 and not kept:
            kept.update(phase=model.arena.caps.phases.phase, steps=model.num_timesteps)
            model.save(tmp_path / "model")
            if hasattr(model, "save_replay_buffer"):
                model.save_replay_buffer(tmp_path / "buffer")

    whole = make_model(algorithm, limited(), seed=3, episode_length_schedule=schedule)
    whole.learn(900, callback=Tell(on_generation=save))
    assert 0 < kept["phase"] and kept["steps"] < 900
    resumed = algorithm.load(tmp_path / "model", env=limited())
    assert resumed.episode_length_schedule == schedule and resumed.arena.caps.phases.phase == kept["phase"]
    if hasattr(resumed, "load_replay_buffer"):
        resumed.load_replay_buffer(tmp_path / "buffer")
    resumed.learn(900 - resumed.num_timesteps, reset_num_timesteps=False)
    assert not differences(state_of(whole), state_of(resumed))
    assert resumed.arena.caps.__dict__ == whole.arena.caps.__dict__


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_schedule_carries_nothing_from_one_model_to_another(algorithm):
    schedule = ProgressiveEpisodeLength(first_length=3)
    runs = [caps_of(make_model(algorithm, limited(), seed=1, episode_length_schedule=schedule), 400) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_workers_change_nothing(algorithm):
    states = []
    for n_workers in (1, 2):
        schedule = ProgressiveEpisodeLength(n_random_episodes=3, horizon=12)
        model = make_model(
            algorithm, drift(), seed=4, episode_length_schedule=schedule, n_workers=n_workers, backend="subproc"
        )
        states.append((state_of(model.learn(300)), model.arena.caps.__dict__))
    lockstep = make_model(algorithm, drift(), seed=4, episode_length_schedule=schedule)
    states.append((state_of(lockstep.learn(300)), lockstep.arena.caps.__dict__))
    for state, caps in states[1:]:
        # What Monitor says of the time is not compared, only returns and lengths; the clock's seconds are 0.
        assert not differences(states[0][0], state) and caps == states[0][1]


def test_probes_see_short_phases_through():
    schedule = ProgressiveEpisodeLength("constant", first_length=5, horizon=20)
    model = make_model(ESAC, Count(), seed=0, episode_length_schedule=schedule, champion_episodes=2, agent_fraction=0.2)
    model.learn(2000)
    # A cut return of 5 is far below the champion's 20, and says nothing against its owner.
    assert model.champion.record is not None and (model.champion.record.returns == 20).all()


def test_how_long_a_probe_is_expected_to_be():
    schedule = ProgressiveEpisodeLength(first_length=5, horizon=20)
    model = make_model(ESAC, Count(), seed=0, episode_length_schedule=schedule)
    caps = model.arena.caps
    caps.phases, caps.cap, caps.whole_length = schedule.phases(20), 5, 20.0
    for lengths, cut in (([5, 3], True), ([4, 3], False)):
        caps.note(np.array(lengths))
        assert caps.cut == cut and caps.probe_length(4.0) == 20.0 and caps.probe_length(30.0) == 30.0
    caps.note(np.array([5]))
    caps.whole_length = 0.0
    assert caps.probe_length(4.0) == 20, "nobody has seen a whole episode yet"
    caps.phases, caps.cap = caps.phases.advance(10, 10), 20
    caps.note(np.array([20]))
    assert not caps.cut


# -- the horizon ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vec_env", [None, SubprocVecEnv])
def test_the_time_limit_is_found_where_there_is_one(vec_env):
    for make, expected in ((limited, 12), (Drift, None)):
        venv = make_vec_env(make, 1, vec_env_cls=vec_env)
        assert time_limit(venv) == expected
        # It is alive and well.
        assert venv.reset().shape == (1, 3)
        venv.close()
    assert time_limit(make_vec_env("CyclicMDP-v0", 1, env_kwargs=dict(horizon=30))) == 30


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_horizon_that_is_not_known_is_asked_for(algorithm):
    with pytest.raises(ValueError, match=r"`horizon` of `episode_length_schedule` must be .* not None"):
        make_model(algorithm, drift(), episode_length_schedule=ProgressiveEpisodeLength())
    with pytest.raises(ValueError, match=r"`first_length` must be at most the horizon, 12, not 13"):
        make_model(algorithm, limited(), episode_length_schedule=ProgressiveEpisodeLength(first_length=13))


@pytest.mark.parametrize("space", [gym.spaces.Discrete(4), gym.spaces.Box(-2.0, 3.0, (2,))])
def test_random_play_depends_on_its_seed_alone(space):
    player = RandomPlayer(space)

    def draw(seed):
        act = player.bind(np.array([seed], dtype=np.float64))
        return np.array([act(None) for _ in range(50)])

    np.testing.assert_array_equal(draw(7), draw(7))
    assert (draw(7) != draw(8)).any()
    assert all(action in space for action in draw(2**31 - 1).astype(space.dtype))
