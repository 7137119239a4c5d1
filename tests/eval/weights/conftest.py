"""Where the fetched weights are, as tests of the networks have them."""

from tests.eval.networks.conftest import _networks_of_this_machine, fetched

__all__ = ["_networks_of_this_machine", "fetched"]
