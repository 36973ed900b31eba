"""The style sheet of the page: one column, light or dark as the reader's system, wide tables scroll."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --ink: #1b1b1f; --paper: #ffffff; --soft: #f2f4f7; --line: #d5d9e0;
  --quiet: #5a6270; --accent: #00568c; --good: #0b6b3a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ec; --paper: #16181d; --soft: #22262e;
  --line: #3a404b; --quiet: #a4acb9; --accent: #7cc0ee; --good: #7ddca4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p, ul { margin: .5rem 0; max-width: 48rem; }
ul { padding-left: 1.2rem; }
li { margin: .3rem 0; }
.note { background: var(--soft); border-left: 4px solid var(--accent); padding: .5rem .8rem; }
.quiet, caption, figcaption { color: var(--quiet); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .6rem 0; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
caption { text-align: left; padding: .4rem .6rem; }
th, td { text-align: left; padding: .35rem .6rem; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { background: var(--soft); border-top: 0; }
.number { text-align: right; }
thead th { vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 600; position: sticky; left: 0; background: var(--paper);
  background-clip: padding-box; }
td .interval, th .interval { display: block; color: var(--quiet); font-size: .8rem; font-weight: 400; }
td .best { font-weight: 700; color: var(--good); }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
figcaption { margin-top: .3rem; max-width: 48rem; }
details { margin: .5rem 0; border: 1px solid var(--line); border-radius: 6px; padding: .3rem .7rem; }
summary { cursor: pointer; font-weight: 600; padding: .2rem 0; }
pre { background: var(--soft); padding: .7rem; border-radius: 6px; white-space: pre-wrap; font-size: .85rem; }
@media (min-width: 40rem) { wbr { display: none; } }
@media (max-width: 40rem) {
  body { padding: .7rem; }
  th, td { padding: .3rem .4rem; }
  tbody th { white-space: normal; max-width: 38vw; }
}
@media print { details { break-inside: avoid; } .scroll { overflow: visible; } }
"""
