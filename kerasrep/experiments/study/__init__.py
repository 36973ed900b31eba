"""A whole comparison: design of the runs, running them as processes, statistics, report.

No TensorFlow, and nothing of the other stages: they are started as commands and leave files.
"""
