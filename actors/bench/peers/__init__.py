"""Who is measured beside us: one file a peer, run as a program of its own for one case at a time.

Rule: a peer is used as its own guide shows, and no peer is a dependency: what is not installed is said to be not
installed.
"""
