from nasbench.testing.supernets import SupernetContract


class TestSupernetContract(SupernetContract):
    pass
