"""A package that is vendored beside the hooks."""


def convert(path):
    return f"{path}-converted"
