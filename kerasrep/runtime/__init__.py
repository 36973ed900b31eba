"""The process: what it prints and logs, how it is stopped, and the processes and threads it starts."""
