"""Real processes for a fake cluster: a template that they come from, a channel to each, one virtual time for all."""
