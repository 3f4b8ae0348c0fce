"""Tell the story of one replica's start; ``cluster.Cluster`` is the port to what it runs on."""
