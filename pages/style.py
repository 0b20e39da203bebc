"""How pages look: in light and dark, on narrow screens and on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #5b6470; --paper: #ffffff; --line: #d8dde3; --tint: #f4f6f8;
  --link: #0b5cad; --alarm: #a3260b; --alarm-tint: #fdf1ed; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --faint: #9aa4b0; --paper: #14171b; --line: #333a42;
  --tint: #1d2127; --link: #7db7f0; --alarm: #ff9a7f; --alarm-tint: #2c1a16; } }
* { box-sizing: border-box; } [hidden] { display: none !important; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 5rem; max-width: 64rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif; }
a { color: var(--link); }
header { border-bottom: 2px solid var(--ink); padding-bottom: 1rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; }
p { max-width: 46rem; margin: .5rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .6rem 0 0; font-size: .92rem; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
nav { margin: 1rem 0 0; font-size: .92rem; line-height: 1.9; }
nav a { margin-right: 1.1rem; white-space: nowrap; }
figure { margin: 1.2rem 0 1.8rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; padding: .5rem; background: #ffffff;
  border: 1px solid var(--line); border-radius: 4px; }
figcaption { margin: .55rem auto 0; max-width: 46rem; font-size: .88rem; color: var(--faint); }
figcaption b, caption b { color: var(--ink); }
.table { overflow: auto; max-height: 85vh; margin: 1rem 0 1.6rem; background:
  linear-gradient(to left, var(--paper) 40%, transparent) 100% 0 / 2.5rem 100% no-repeat local,
  linear-gradient(to left, var(--line), transparent) 100% 0 / 1rem 100% no-repeat scroll; }
.table th, .table td { background-clip: padding-box; }
.table th { position: sticky; top: 0; z-index: 1; }
.table th:first-child, .table td:first-child { position: sticky; left: 0; background-color: var(--paper); }
.table th:first-child { z-index: 2; background-color: var(--tint); }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { caption-side: top; text-align: left; font-size: .88rem; color: var(--faint); padding-bottom: .4rem; }
.table caption { position: sticky; left: 0; max-width: min(46rem, 100vw - 3rem); }
th, td { padding: .28rem .75rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th.text, td.text { text-align: left; }
td a { white-space: nowrap; }
td.text { white-space: normal; }
thead th { box-shadow: inset 0 -1.5px var(--ink); background: var(--tint); font-weight: 600; }
details { margin: 1rem 0 1.6rem; font-size: .88rem; color: var(--faint); }
summary { cursor: pointer; }
summary b { color: var(--ink); }
details table { color: var(--ink); }
.note { border-left: 3px solid var(--line); padding-left: .8rem; color: var(--faint); font-size: .92rem; }
footer { margin-top: 4rem; border-top: 1px solid var(--line); padding-top: .8rem; color: var(--faint);
  font-size: .85rem; }
.alarm { border: 1px solid var(--alarm); border-left-width: 6px; border-radius: 4px; padding: .7rem 1rem;
  margin: 1.2rem 0; background: var(--alarm-tint); }
.alarm b { color: var(--alarm); }
.alarm ul { margin: .3rem 0 0; padding-left: 1.2rem; }
.sortable button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: inherit; }
.sortable button:hover { text-decoration: underline; }
.sortable button::after { content: "\\00A0\\2195"; color: var(--faint); }
.sortable th[aria-sort=ascending] button::after { content: "\\00A0\\25B2"; color: var(--ink); }
.sortable th[aria-sort=descending] button::after { content: "\\00A0\\25BC"; color: var(--ink); }
.sortable th { white-space: normal; vertical-align: bottom; }
.drawing { overflow-x: auto; }
svg.whole { display: block; width: 100%; min-width: 30rem; max-width: 46rem; margin: 0 auto; font: 13px system-ui,
  "Liberation Sans", sans-serif; fill: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 auto .5rem; max-width: 46rem;
  font-size: .88rem; }
.legend span { white-space: nowrap; } .legend svg { vertical-align: middle; margin-right: .4rem; }
.swatch { display: inline-block; width: .9em; height: .9em; border-radius: 2px; margin-right: .4rem;
  vertical-align: -.08em; border: 1px solid var(--faint); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; }
.tile { border: 1px solid var(--line); border-radius: 6px; background: var(--tint); padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: .88rem; }
.stack { position: relative; background: #000; border-radius: 4px; overflow: hidden; margin: 0 auto; }
.stack img { position: absolute; inset: 0; width: 100%; height: 100%; max-width: none; margin: 0; padding: 0; border: 0;
  border-radius: 0; background: none; }
.bare .overlay { visibility: hidden; }
.planes { display: flex; flex-wrap: wrap; gap: 1rem; align-items: end; justify-content: center; }
.planes > div { flex: 1 1 15rem; max-width: 26rem; } .planes p { text-align: center; font-size: .88rem; }
.controls { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: center; max-width: 36rem;
  margin: .6rem auto; font-size: .92rem; }
.controls input[type=range] { flex: 1 1 14rem; min-width: 0; } .controls output { flex-basis: 100%; color: var(--faint);
  font-variant-numeric: tabular-nums; }
svg.chart .grid { stroke: var(--line); } svg.chart .axis { stroke: var(--faint); }
svg.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg.chart .point { fill: var(--paper); stroke-width: 2; }
svg.chart .here { stroke: var(--link); stroke-width: 1.5; stroke-dasharray: 4 3; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .35rem; }
  body { padding: 1.2rem 1rem; } }
@media print { :root { color-scheme: light; --ink: #000; --faint: #333; --paper: #fff; --line: #bbb; --tint: #f2f2f2; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  figure img { border: none; padding: 0; }
  figure, tr, details, .note { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  .table { overflow: visible; max-height: none; background: none; } }
"""
