"""An engine whose latencies are a formula, so that what is found out of a device can be exact."""

from nasbench.cost import count_parameters
from nasbench.hardware import Engine


class SimulatedEngine(Engine):
    """5 us to start, and 1 us for every hundred parameters; nothing waits for a clock."""

    name = "simulated"
    packages = ()
    start_ns, ns_per_parameter = 5000.0, 10.0
    num_compiled = 0
    fails_after = None  # networks; a test sets it

    def compile(self, module, example_inputs):
        if type(self).fails_after == type(self).num_compiled:
            raise RuntimeError("unplugged")
        type(self).num_compiled += 1
        return count_parameters(module)

    def load(self, artifact, num_threads):
        return lambda: self.start_ns + self.ns_per_parameter * artifact

    def elapsed_ns(self, forward, clock_ns):
        return forward()

    def device(self):
        return "a formula"


class SlowEngine(SimulatedEngine):
    """Another device: slower, and square."""

    name = "slow"

    def elapsed_ns(self, forward, clock_ns):
        return 3 * forward() + forward() ** 2 / 1e6


SIMULATED = f"{__name__}:SimulatedEngine"
SLOW = f"{__name__}:SlowEngine"
