"""The benchmarks: our figures and the peers', measured in one run and set against targets.

Rule: every measurement is a program of its own, started afresh, and the programs of all contestants take turns, round
after round, so that what the machine does at the moment hits all of them alike; a ratio is taken within a round and the
median of the rounds is shown, with the spread. Rejected: one process that measures everything (what one contestant
leaves behind, the next one pays for), and best-of figures (they measure luck).

figures.py   what is measured, against whom, and the targets
cases.py     our side, one function a case        peers/    theirs, one file a peer        floor.py    the same in C
runner.py    rounds of fresh programs             table.py  medians, spread, ratios, verdicts
"""
