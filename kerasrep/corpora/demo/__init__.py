"""The embedded corpus: real scores from the music21 wheel, rendered with pretty_midi's SoundFont.

Reading order: `catalogue` (what may be taken) -> `pieces` (what there is, versions of one tune) ->
`selection` (which become tracks, splits) -> `abc_notation`, `staff_notation` -> `score` (notes) ->
`arrangement` (and what is chosen at rendering) -> `recording` (one take) -> `labels` (and listeners) ->
`building` (all takes, manifest) -> `opening` (the cache).
"""

from kerasrep.corpora.demo.opening import demo_is_cached, open_demo

__all__ = ["demo_is_cached", "open_demo"]
