"""The gradient half: a stock off-policy algorithm of SB3. It knows nothing of the population."""
