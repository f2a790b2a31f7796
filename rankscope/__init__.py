"""RankScope: how many directions the weights of a neural network really use."""
