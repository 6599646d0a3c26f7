from nasbench.testing.algorithms import SearchAlgorithmContract


class TestSearchAlgorithmContract(SearchAlgorithmContract):
    pass
