"""The mathematics of the search: numpy in, numpy out. Knows no environment and no Stable-Baselines3."""
