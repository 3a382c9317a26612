"""How bytes move between processes; knows nothing of actors.

The ring is an extension in C. Where it was not built (no compiler), or ACTORS_TRANSPORT=python says so, the ring in
Python takes its name (fallback/). All processes of a system have the same one.
"""

import os
import sys

if __name__ != "actors.transports":  # from a checkout the bare name would load a second copy of every class
    raise ImportError("import this package as actors.transports")

KIND = os.environ.get("ACTORS_TRANSPORT") or "any"
"""Which of the two this process has: "c" or "python"."""

MISSING = ""
"""Why there is no extension, if nobody asked for that."""

if KIND not in ("any", "c", "python"):
    raise ImportError(f"ACTORS_TRANSPORT={KIND}: it may be 'c' (the extension or nothing) or 'python'")
if KIND != "python":
    try:
        from . import _ring  # noqa: F401

        KIND = "c"
    except ImportError as error:
        if KIND == "c":
            raise
        built = any(name.startswith("_ring.") and name.endswith(".so") for name in os.listdir(__path__[0]))
        KIND, MISSING = "python", str(error) if built else "it was not built"
if not getattr(sys, "_is_gil_enabled", lambda: True)():  # the extension, built as it is, has the interpreter enable it
    raise ImportError(
        "process-actors needs the GIL: its rings rest on it within a process. Run with PYTHON_GIL=1 (or -X gil=1), or with a "
        "build of Python that is not free-threaded; actors run in parallel all the same, each in a process of its own"
    )
if KIND == "python":
    from . import fallback

    sys.modules[f"{__name__}._ring"] = globals()["_ring"] = fallback  # for `import` and for `from … import _ring`


def announce() -> None:
    """Say once that the extension is missing and what that costs (RuntimeWarning); nothing where it was not wanted."""
    global MISSING
    why, MISSING = MISSING, ""
    if why:
        import warnings

        warnings.warn(
            f"process-actors runs without its C extension ({why}): a tell takes some four times as long, large data is "
            "copied by each reader, and a few promises are weaker (docs/decisions/0025). Install a C compiler and Python's "
            "headers, then `pip install --force-reinstall --no-cache-dir process-actors`; ACTORS_TRANSPORT=python "
            "chooses this and is quiet.",
            RuntimeWarning,
            stacklevel=4,
        )


def differs(whose: str, theirs: str) -> str:
    """The error of a process that has another ring than `whose` processes."""
    names = {"c": "the C extension", "python": "the ring in Python"}
    if theirs == "python":
        cure = "set ACTORS_TRANSPORT=python in this program's environment"
    else:
        cure = "install the package where a C compiler is, or start that system with ACTORS_TRANSPORT=python"
    return f"{whose} runs on {names.get(theirs, theirs)}, and this process has {names[KIND]}: {cure}"
