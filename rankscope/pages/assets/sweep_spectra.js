"use strict";

/**
 * The spectra of each layer at the end, by what varies, and where they cross (P1, Figs. 16 and 17).
 */
{
  const { part } = sweep;
  const MOST = 12; // panels at once, as a figure of P1 has
  const HEIGHT = 260;

  const PLAIN = "Singular values of each layer at the end over its norm, a line for each level.";
  const MARKED = `${PLAIN} Left of the dotted line are the large values, right of it the small ones: ` +
    "the lines change places there. Shaded: from where the first neighbours cross to where the last do.";

  const state = { group: 0, which: 0, logarithmic: true };

  /** Groups of runs; without a setting that varies, every run by itself. */
  const groups = part.groups.length ? part.groups : [{
    heading: "run", fixed: "", crossings: [],
    levels: part.runs.map((run, i) => [run.name, [i]]),
  }];

  const kinds = [...new Set(part.matrices.map(({ kind }) => kind))];

  /** Pages of panels: the layers of a kind, at most `MOST` at once. */
  const pages = () => {
    const all = part.matrices.map((_, i) => i);
    if (all.length <= MOST) return [{ label: "all matrices", members: all }];
    return kinds.flatMap((kind) => {
      const members = all.filter((i) => part.matrices[i].kind === kind);
      return Array.from({ length: Math.ceil(members.length / MOST) }, (_, at) => {
        const some = members.slice(at * MOST, (at + 1) * MOST);
        const first = at * MOST + 1;
        const rest = `: ${first} to ${first + some.length - 1} of ${members.length}`;
        return { label: kind + (members.length > MOST ? rest : ""), members: some };
      });
    });
  };

  /** The mean over runs of spectra relative to their norms, as the crossings were found. */
  const meanSpectrum = (page, runs, matrix) => {
    const found = runs.map((run) => sweep.spectrum(page, run, matrix)).filter(Boolean);
    const length = found[0]?.sigma.length;
    if (!length || found.some((one) => one.sigma.length !== length)) return null;
    const norms = found.map((one) => page.metrics.normOf(one, page.data.norm));
    if (norms.some((norm) => !(norm > 0))) return null;
    return Float64Array.from({ length }, (_, i) =>
      found.reduce((sum, one, which) => sum + one.sigma[i] / norms[which] / found.length, 0));
  };

  const shades = (page, count) =>
    Array.from({ length: count }, (_, i) => page.palette.shade(count > 1 ? i / (count - 1) : 0));

  const curvesOf = (page, group, matrix) => {
    const colours = shades(page, group.levels.length);
    return group.levels.flatMap(([level, runs], i) => {
      const values = meanSpectrum(page, runs, matrix);
      const label = `${group.heading} ${sweep.words(level)}`;
      return values === null ? [] : [{ label, values, unit: 1, colour: colours[i], width: 1.8 }];
    });
  };

  const crossingOf = (group, matrix) => group.crossings.find((one) => one.matrix === matrix);

  /** Between the last large value and the first small one; shaded, where pairs cross. */
  const mark = (crossing, page) => {
    if (!crossing) return { shapes: [], annotations: [] };
    const x = crossing.crossing + 0.5;
    return {
      shapes: [
        {
          type: "rect", yref: "paper", y0: 0, y1: 1, layer: "below",
          x0: crossing.smallest + 0.5, x1: crossing.largest + 0.5,
          fillcolor: page.palette.muted, opacity: 0.2, line: { width: 0 },
        },
        {
          type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x,
          line: { color: page.palette.ink, width: 1.5, dash: "dot" },
        },
      ],
      annotations: [],
    };
  };

  const caption = (group, matrix) => {
    const found = crossingOf(group, matrix);
    const { name } = part.matrices[matrix];
    if (!found) return name;
    const { crossing, smallest, largest, agreement } = found;
    const span = smallest === largest ? "at one place" : `at ${smallest} to ${largest}`;
    return `${name}: ${numbers.count(crossing)} large values; neighbours cross ${span}, ` +
      `${numbers.share(agreement)} agree`;
  };

  const panel = (page, place, group, matrix) => {
    const drawn = () => curvesOf(page, group, matrix);
    return page.chart(place, {
      caption: caption(group, matrix),
      label: `Singular values of ${part.matrices[matrix].name} by ${group.heading}`,
      height: HEIGHT,
      draw: () => {
        const marks = [mark(crossingOf(group, matrix), page)];
        const { traces, layout } = curves.figure(drawn(), marks, page.data.norm, false);
        layout.margin = { l: 52, r: 8, t: 8, b: 40 };
        const { title } = layout.yaxis;
        if (!state.logarithmic) layout.yaxis = { title, rangemode: "tozero" };
        return { traces, layout };
      },
      table: () => curves.table(drawn()),
    });
  };

  const crossingTable = (page, element, group) => {
    if (!group.crossings.length) return;
    const levels = group.levels.map(([level]) => level);
    const mass = (level) => ({
      key: `mass ${level}`, heading: `mass at ${sweep.words(level)}`, kind: "number",
      value: (row) => row.mass[row.levels.indexOf(level)],
      cell: (row) => numbers.share(row.mass[row.levels.indexOf(level)]),
    });
    page.table(element, {
      caption: `Where the spectra of each layer cross by ${group.heading}`,
      columns: [
        { key: "name", heading: "matrix" },
        {
          key: "crossing", heading: "large values", kind: "number",
          cell: (row) => numbers.count(row.crossing),
          help: "How many singular values are large: the median of where neighbouring levels cross.",
        },
        {
          key: "span", heading: "range", value: (row) => row.smallest,
          cell: (row) => `${row.smallest} to ${row.largest}`,
          help: "Where the first and the last of them cross.",
        },
        {
          key: "agreement", heading: "agree", kind: "number",
          cell: (row) => numbers.share(row.agreement),
          help: "Of the indices, how many have the curves in this order: the least of any pair.",
        },
        ...levels.map(mass),
      ],
      rows: group.crossings.map((one) => ({ ...one, name: part.matrices[one.matrix].name })),
    });
  };

  const render = (page, element) => {
    const all = pages();
    const [key, grid, below] = [choice.legend(), page.dom("div", { class: "panels" }), page.dom("div")];
    let panels = [];
    const redraw = () => {
      const group = groups[state.group];
      const colours = shades(page, group.levels.length);
      page.legend(key, group.levels.map(([level, runs], i) => ({
        label: `${group.heading} ${sweep.words(level)}` +
          (runs.length > 1 ? `, mean of ${runs.length} runs` : ""),
        colour: colours[i],
      })));
    };
    const rebuild = () => {
      const group = groups[state.group];
      grid.replaceChildren();
      panels = all[state.which].members
        .filter((matrix) => curvesOf(page, group, matrix).length)
        .map((matrix) => panel(page, grid, group, matrix));
      below.replaceChildren();
      crossingTable(page, below, group);
      redraw();
    };
    const layers = all.map(({ label }, i) => ({ value: String(i), label }));
    const chosen = (name) => (value) => {
      state[name] = Number(value);
      rebuild();
    };
    const log = choice.box("logarithmic values", (checked) => {
      state.logarithmic = checked;
      panels.forEach((one) => one.redraw());
    }, true);
    const named = groups.map(({ heading, fixed, levels }, i) => ({
      value: String(i),
      label: `${heading} ${sweep.words(levels[0][0])} to ${sweep.words(levels.at(-1)[0])}` +
        (fixed ? `, at ${fixed}` : ""),
    }));
    element.append(
      page.dom("p", {}, part.groups.some(({ crossings }) => crossings.length) ? MARKED : PLAIN),
      page.dom(
        "div", { class: "row tools" },
        groups.length > 1 ? choice.list("By", [{ options: named }], chosen("group")).element : null,
        all.length > 1 ? choice.list("Layers", [{ options: layers }], chosen("which")).element : null,
        log,
      ),
      key, grid, below,
    );
    rebuild();
    theme.onChange(redraw);
  };

  sections.push({
    id: "spectra-by-setting",
    title: groups[0].heading === "run" ? "Spectra by run" : "Spectra by setting",
    applies: (data) => "sweep" in data.parts && part.curves.length > 0,
    render,
  });
}
