"""The gradient half: a stock off-policy algorithm of SB3, and what is done with it. It knows nothing of the population."""
