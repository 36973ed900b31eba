"""Public label files as they are published, read line by line or row by row, one module a form.

Each reader returns a `Reading`: labels, and counts of all that was skipped. What is malformed ends the
reading with one line that names file and place; unknown and repeated tracks are skipped and counted.
"""
