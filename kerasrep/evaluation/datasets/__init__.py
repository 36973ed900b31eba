"""Readers of published data sets, one module each, all in one order.

A module has: a docstring (what it is, `Layout:`, `Split:`, `Citation:`, `Licence:`), constants, the reader
`read(folder, split_list=None)`, and `TASKS`. Nothing is ever downloaded: each task says where its data set
is described. To add one, see "Add a downstream task" in CONTRIBUTING.md.

Each labelled data set is also read from a split list (`kerasrep.evaluation.readers.split_list`): the one that
is named, else `split.tsv` in the data set's folder, where there is one.

mirdata (https://github.com/mir-dataset-loaders/mirdata) has loaders of GTZAN and IRMAS and of none of the
others. They are not used: as of mirdata 1.0.0 a loader first downloads an index of all files from Zenodo, and
an item that is not in it, such as the same excerpt in another format, does not exist. The package also asks
for `smart_open[all]`, which brings the client libraries of several cloud stores and with them
`python-dateutil<3`, while constraints.txt has version 4.
"""
