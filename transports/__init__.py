"""How bytes move between processes; knows nothing of actors."""

if __name__ != "actors.transports":  # from a checkout the bare name would load a second copy of every class
    raise ImportError("import this package as actors.transports")
