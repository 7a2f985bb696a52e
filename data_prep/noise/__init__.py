"""Label noise: seeded noise models, masks of the noisy training labels, and the protocols of a study."""
