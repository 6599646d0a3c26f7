"""Networks of one's own as supernets: the contract, and what holds of every architecture."""

from nasbench.testing.supernets import SupernetContract


class TestOwnNetworks(SupernetContract):
    families = (
        "tests.supernet.networks:plain_cnn",
        "tests.supernet.networks:small_resnet",
        "tests.supernet.networks:smooth_mobilenet",
    )
    num_random = 8
