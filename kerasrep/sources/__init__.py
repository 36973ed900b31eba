"""What is learnt: raw labels of the learning sources, and the soft targets made from them.

The sources themselves are named in `constants.SOURCES`; `VALUE_SOURCES` become posteriors of a Gaussian
mixture, `COUNT_SOURCES` topics of pLSA, and `self` needs no labels.
"""
