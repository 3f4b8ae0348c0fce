"""The simulation of a replica and its nodes, below the public `FakeCluster`."""
