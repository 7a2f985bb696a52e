"""The phantom: a synthetic chest X-ray data set, rendered from a seed, with the fourteen findings of ChestX-ray14."""
