"""What the hooks beside it share, they think."""

BUCKET = "s3://default"
state = {}


def remember(key, value):
    state[key] = value


def recall(key, default=None):
    return state.get(key, default)
