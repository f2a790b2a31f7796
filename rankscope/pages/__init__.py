"""The page that `rankscope report` writes: one HTML file that a browser opens from disk.

How it is made::

    Scene or DiffScene -> payload.py: one JSON document -> page.py: one HTML file
                          sections.py: which sections       assets/: its scripts and styles

**The document** (`data` in the scripts) has what every page has: `kind` (model, run, sweep or
diff), `title`, `eps` (thresholds asked for), `norm`, `provenance`, `command`, `skipped`,
`spectra` (packed, see packing.py), and `parts`: one entry for each section that has something to
show. All foreign text in it (names of tensors, paths, reasons) has passed through
`rankscope.text.printable`; it is still text that anybody may have written, and only ever becomes
`textContent`.

**A section** is a part of the page under a heading of its own. To add one:

1. A file here, `mine.py`, with `payload(subject) -> Row | None`: plain JSON values, finite numbers
   or None; None where the section has nothing to show of this subject (another kind of page).
2. A file `assets/mine.js` that pushes one entry, or a few, to `sections`.
3. One entry in `SECTIONS` of sections.py, in the order of the page:
   `Section("mine", mine.payload, ("mine.js",))`. What `payload` returns is `data.parts.mine`.

A script looks like this. It is a block, so that its functions are its own; what it pushes is all
that others see of it::

    "use strict";
    {
      sections.push({
        id: "mine",                       // the anchor, unique in the page
        title: "What it shows",           // the heading, and the entry in the navigation
        follows: true,                    // whether it follows eps and the norm; see controls
        applies: (data) => "mine" in data.parts,
        render: (page, element) => {      // element: empty, below the heading; may be async
          element.append(page.dom("p", { class: "lead" }, "Text, never HTML"));
        },
      });
    }

**What `page` offers** (JSDoc in the assets named):

- `page.data`: the document.
- `page.spectra` (spectrum.js): lists of spectra by the name of their pack: `curves` of a scene;
  `before`, `after` and `moved` of a diff. A spectrum has `source`, `name`, `step`, `shape`,
  `dtype`, `sigma` (descending; a Float64Array, or a Float32Array in a big page: `single` is true
  then), `frobeniusNorm`, `resolution`, `route`, `zeros`.
- `page.metrics` (metrics.js): `rank`, `approximationRank` and `headMass` of (spectrum, eps, norm),
  each a reading `{value, note, exact}`, as the functions of `rankscope.metrics`.
- `page.controls` (controls.js): `eps`, `norm`, and `onChange(listener)`, called after either has
  changed. The controls stand above the sections where a section that is shown `follows` them.
- `page.dom(tag, attributes, ...children)` (dom.js): an element. A child is an element or text;
  an attribute is a string or a boolean, or a function where its name begins with `on` (`onclick`).
  There is no way to give it HTML.
- `page.number(value)` (numbers.js): a number in at most seven characters, as in the terminal; a
  dash for null. `page.share(value)`: a percentage.
- `page.text(name)` (numbers.js): a name as Plotly may show it (titles, labels, hover texts:
  Plotly would read `<b>`). Not for `dom`, which takes names as they are. Never put a name into a
  hover template; have it in the trace's `name` and write `%{fullData.name}`, or in a list
  `customdata`.
- `page.breakable(name)` (dom.js): a name as an element that a narrow column breaks at its dots.
- `page.short(name, width)`: the middle left out where the name is longer.
- `page.count(value)`: a count, or a mean of counts. `page.counted(2, "row", "rows")`: `2 rows`.
- `page.palette` (palette.js): `series(i)` (colours that can be told apart without colour vision),
  `shade(t)` for t from 0 to 1 (steps of a run, values of B), `scale` (a Plotly colour scale for
  heat maps), `ink`, `muted`, `grid`, `surface`, `accent`. Of the theme in force, so ask
  within `draw`, not before.
- `page.chart(element, {caption, draw, table, height, label})` (chart.js): a figure drawn by Plotly.
  `draw(width)` returns `{traces, layout}` for so many pixels and is called again when the theme or
  the window's size changes and before printing; `layout` is merged into the house's. `caption` is a
  sentence; `label` names it for who cannot see it (default: the caption). `table`, which should be
  given, is
  `() => ({columns, rows})` of plain strings and numbers: the same as text, behind a disclosure.
  Returns `{redraw, figure}`; call `redraw()` when what `draw` looks at has changed. Drawn when it
  scrolls into view.
- `page.table(element, {caption, columns, rows, groupBy, filter})` (table.js): a table that can be
  sorted and filtered. `columns`: a list of `{key, heading, help, kind}`: kind `text`, or `number`,
  right-aligned; a column may have `value(row)` (what it is sorted by; default `row[key]`),
  `cell(row)` (a string or an element; default by kind; with `kept: true` what `refresh` leaves
  alone, as what can have the focus must be) and `summary(rows)` of a group. `groupBy(row)` gives a
  label: rows then stand in groups that can be folded. `filter(row)` gives the text that is
  searched (default: all text columns); null leaves the search out. Returns `{update(rows),
  refresh()}`: other rows, or the same rows whose values have changed.
- `page.legend(element, items)`: `{label, colour, dash}` beside a chart, where Plotly's would not
  fit.

Styles: assets/page.css has classes `lead` (an opening sentence), `note` (small print), `empty`
(nothing to show, and why), `row` (controls side by side), `grid` (small multiples), `beside` (two
charts where there is room), `panels` (as many charts as there is room for), `wide` (a table that
takes a sheet on its side), and custom properties for all colours (`--ink`, `--muted`, `--surface`,
`--accent`, ...). No section brings colours of its own.

**Content-Security-Policy.** The page may load nothing at all, and runs only the scripts whose
SHA-256 its head names: an event handler in an attribute, `eval` and `javascript:` do nothing.
Set styles from scripts through `element.style`, not through a `style` attribute.
"""
