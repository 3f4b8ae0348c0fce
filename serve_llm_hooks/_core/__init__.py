"""Define what a hook is and call it: points, errors, ``@hook``, order, context, trace, dispatch."""
