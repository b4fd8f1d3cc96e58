"""A cluster of Ray's on this machine, led by lines of JSON from another process, which so never loads Ray.

`python ray_cluster.py CORES` answers each of `["add", {"NAME": "VALUE"}]`, `["kill", NUMBER]` and
`["raylets"]` with a line; the first line is the address. It ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any

SMALL = {"object_store_memory": 80 << 20}


def main(cores: int) -> None:
    """Answer until the input ends."""
    patient = {"RAY_health_check_failure_threshold": "60"}  # where the machine is busy
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", **patient}
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": cores, "include_dashboard": False, **SMALL},
    )
    nodes: list[Any] = []
    tell(cluster.address)
    for line in sys.stdin:
        what, *given = json.loads(line)
        if what == "add":
            nodes.append(added(cluster, given[0]))
            tell(len(nodes) - 1)
        elif what == "kill":  # its raylet and workers, by SIGKILL
            cluster.remove_node(nodes[given[0]], allow_graceful=False)
            tell(None)
        else:
            every = [node.all_processes.get("raylet", []) for node in cluster.list_all_nodes()]
            tell([process.process.pid for some in every for process in some])
    cluster.shutdown()


def added(cluster: Any, environment: dict[str, str]) -> Any:
    """A new node; Ray gives up after half a minute, which on a busy machine is too soon."""
    for _ in range(4):
        with suppress(Exception):
            return cluster.add_node(num_cpus=1, env_vars=environment, **SMALL)
    raise TimeoutError("no node starts")


def tell(value: object) -> None:
    """Print a line."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
