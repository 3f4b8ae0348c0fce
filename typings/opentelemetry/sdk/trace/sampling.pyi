ALWAYS_OFF: object
