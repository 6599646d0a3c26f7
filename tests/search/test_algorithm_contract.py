from nasbench.testing.algorithms import SearchAlgorithmContract


class TestSearchAlgorithmContract(SearchAlgorithmContract):
    nightly = ("agemoea2", "gp")  # numba compiles for seconds; a Gaussian process fits for seconds
