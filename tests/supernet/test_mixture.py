from nasbench.testing.supernets import SupernetContract, random_architectures


class TestMixtureContract(SupernetContract):
    sharings = ("mixture_layerwise", "mixture_neuronwise")

    def architectures(self, space):
        return [space.largest, space.smallest, *random_architectures(space, 4)]
