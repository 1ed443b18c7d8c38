"""
Record what a saved model does: a video, and a strip of frames for a page or a paper.

The same from the command line: `python -m sb3_esac.video cartpole.zip --env CartPole-v1 -o cartpole.mp4`. Needs the extra
`video`, and pygame for this task; MuJoCo draws without a screen by EGL or OSMesa, whichever there is.
"""

import argparse

from sb3_esac import ES
from sb3_esac.video import record

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=100_000)
steps = parser.parse_args().steps

model = ES("MlpPolicy", "CartPole-v1", seed=0)
model.learn(steps)
model.save("cartpole")
for output in ("cartpole.mp4", "cartpole.png"):
    playback = record("cartpole.zip", "CartPole-v1", output, seed=1)
    print(f"return: {playback.returns[0]:.0f}")
    print("wrote", output)
