"""Readers of published data sets, one module each, all in one order.

A module has: a docstring (what it is, `Layout:`, `Split:`, `Citation:`, `Licence:`), constants, the reader
`read(folder, split_list=None)`, and `TASKS`. Nothing is ever downloaded: each task says where its data set
is described. To add one, see "Add a downstream task" in CONTRIBUTING.md.

Each labelled data set is also read from a split list (`kerasrep.downstream.split_list`): the one that is
named, else `split.tsv` in the data set's folder, where there is one.

mirdata (https://github.com/mir-dataset-loaders/mirdata) has loaders of GTZAN and IRMAS and of none of the
others. They are not used: since mirdata 0.3.9 a loader first downloads an index of all files from Zenodo,
an item without a line there does not exist (other sample formats, filtered lists), nothing says which
files are there, and the package asks for `smart_open[all]`, which brings the client libraries of several
cloud stores.
"""
