"use strict";

/**
 * Ranks, norm ratio, bound, loss and accuracy over the steps of a run.
 */
{
  const { part } = runValues;

  const LETTERS = 80; // of a name in the legend, or beside a point
  const EXPECTED = "the first snapshot"; // has no ratio, as everybody knows
  const RATIOS = [
    { value: "distance", label: "distance from 1" },
    { value: "plain", label: "as it is" },
  ];
  const THEORY = ["norm_ratio", ...runBounds.names, "vacuous"];

  const hasRatio = runValues.column("norm_ratio") !== undefined;
  const levels = [...new Set(part.columns.map((column) => column.eps).filter(Boolean))];
  const asked = part.columns.filter((column) => !THEORY.includes(column.name));
  const others = asked.filter((column) => column.name !== "rank");

  const state = {
    choice: runValues.options()[0].options[0].value,
    eps: levels[0] ?? numbers.general(data.eps[0], 6),
    ratio: RATIOS[0].value,
    other: others.find((column) => column.name === "effective_rank")?.key ?? others[0]?.key,
  };

  const lines = () => runValues.lines(state.choice);

  // The threshold that the reader chose, at the snapshots whose spectra are in the page.

  const curveAt = new Map(part.curves.map(([matrix, at], i) => [`${matrix} ${at}`, i]));
  const drawnAt = [...new Set(part.curves.map(([, at]) => at))].sort((a, b) => a - b);

  const isLive = (page) =>
    page.controls.eps !== Number(state.eps) || page.controls.norm !== page.data.norm;

  /** @param {Line} line @param {number} at which snapshot */
  const liveRank = (page, line, at) => {
    const { eps, norm } = page.controls;
    const places = line.members.map((i) => curveAt.get(`${i} ${at}`)).filter((i) => i !== undefined);
    const readings = places.map((i) => page.metrics.rank(page.spectra.curves[i], eps, norm));
    const value = runValues.mean(readings.map((one) => one.value));
    const rough = readings.some((one) => !one.exact);
    return { value, text: (rough ? "~" : "") + numbers.count(value) };
  };

  const liveTraces = (page) => lines().map((line) => {
    const readings = drawnAt.map((at) => liveRank(page, line, at));
    return {
      type: "scatter",
      mode: "markers",
      x: drawnAt.map((at) => part.steps[at]),
      y: readings.map(({ value }) => value),
      customdata: readings.map(({ text }) => text),
      meta: numbers.text(numbers.short(line.label, LETTERS)),
      text: readings.map(() => numbers.text(page.controls.words())),
      hovertemplate: "%{meta}<br>step %{x}: %{customdata} at %{text}<extra></extra>",
      marker: { symbol: "diamond-open", size: 9, color: line.colour(), line: { width: 2 } },
    };
  });

  // The panels.

  const rankPanel = (page) => {
    const key = runValues.keyOf("rank", state.eps);
    if (!key) return null;
    return {
      title: runTrace.titled(key),
      traces: [...runTrace.column(lines(), key), ...(isLive(page) ? liveTraces(page) : [])],
      axis: { rangemode: "tozero" },
    };
  };

  const otherPanel = () => {
    if (!state.other) return null;
    const { counts, name } = runValues.column(state.other);
    const fromZero = counts || name === "effective_rank";
    return {
      title: runTrace.titled(state.other),
      traces: runTrace.column(lines(), state.other),
      axis: fromZero ? { rangemode: "tozero" } : {},
    };
  };

  /** The ratio itself is a line at 1 once it has settled; its distance from 1 shows how far. */
  const distancePanel = () => {
    const { tolerance } = part;
    const traces = runTrace.column(lines(), "norm_ratio").map((made) => (
      { ...made, y: made.y.map((value) => (value === null ? null : Math.abs(value - 1))) }));
    return {
      title: `Norm ratio's distance from 1; dashed: ${tolerance}`,
      traces,
      axis: runPanels.logarithmic([...traces.map(({ y }) => y), [tolerance]]),
      shapes: (axis) => [{
        type: "line", xref: "paper", x0: 0, x1: 1, yref: axis, y0: tolerance, y1: tolerance,
        line: { color: palette.ink, width: 1.5, dash: "dash" },
      }],
    };
  };

  const ratioPanel = () => {
    if (!hasRatio) return null;
    if (state.ratio === "distance") return distancePanel();
    const { tolerance } = part;
    return {
      title: `Norm ratio; shaded: within ${tolerance} of 1`,
      traces: runTrace.column(lines(), "norm_ratio"),
      shapes: (axis) => [{
        type: "rect", xref: "paper", x0: 0, x1: 1, yref: axis, y0: 1 - tolerance, y1: 1 + tolerance,
        layer: "below", fillcolor: palette.muted, opacity: 0.25, line: { width: 0 },
      }],
    };
  };

  const panels = (page) => [
    rankPanel(page), otherPanel(), ratioPanel(), runBounds.panel(lines(), state.eps),
    ...runLog.panels(),
  ].filter(Boolean);

  // What is said beside them.

  const each = () => lines().filter((line) => !line.isMean);

  /** Whether the lines are in shades, which a legend of all of them would not tell apart. */
  const isShaded = () => each().length >= palette.size && state.choice !== "kinds";

  const legend = () => {
    const all = each();
    const some = isShaded() ? [all[0], all[Math.floor(all.length / 2)], all.at(-1)] : all;
    const mean = lines().filter((line) => line.isMean);
    const items = [...some, ...mean].map((line) => (
      { label: numbers.short(line.label, LETTERS), colour: line.colour(), dash: line.dash !== "solid" }));
    return [...items, ...runBounds.legend(lines(), state.eps)];
  };

  /** Why some values are not there. */
  const gaps = () => {
    const keys = [
      runValues.keyOf("rank", state.eps), state.other, "norm_ratio", ...runBounds.keys(state.eps),
    ];
    const all = part.steps.length * part.matrices.length;
    const alike = new Map(); // what lacks as many values for the same reason, together
    for (const key of keys) {
      for (const [reason, count] of part.gaps[key] ?? []) {
        if (reason === EXPECTED) continue;
        const { name, title } = runValues.column(key);
        const said = `in ${count} of ${all} readings: ${reason}.`;
        alike.set(said, [...(alike.get(said) ?? []), runBounds.kinds[name]?.label ?? title]);
      }
    }
    return [...alike].map(([said, names]) => `No ${names.join(", no ")} ${said}`);
  };

  /** Sentences: what the marks mean, and what is not drawn. */
  const remarks = (page) => [
    isShaded() ? `${each().length} lines in shades, dark to light in the order of the checkpoint: ` +
      "point at one for its name." : null,
    state.choice === "kinds" && runValues.leftOut()
      ? `${runValues.leftOut()} smaller kinds are not drawn: choose one above.` : null,
    isLive(page) ? `Lines: ε = ${state.eps}, as the run was analysed. Diamonds: ` +
      `${page.controls.words()}, at the ${drawnAt.length} of ${part.steps.length} snapshots ` +
      "whose spectra are in this page." : null,
    hasRatio ? "Norm ratio: ‖W‖ at the snapshot before over ‖W‖, which Theorem 3.3 assumes to " +
      "tend to 1." : null,
    runBounds.panel(lines(), state.eps) ? "A bound is drawn thin where it is vacuous, at full " +
      "rank (dotted) or above, and thick where it says something." : null,
    ...gaps(),
  ].filter(Boolean);

  /** @returns {{columns: string[], rows: unknown[][]}} */
  const table = (page) => {
    const { bounded, keys } = runBounds;
    const wanted = [
      runValues.keyOf("rank", state.eps), state.other, "norm_ratio", bounded(state.eps),
      ...keys(state.eps),
    ];
    const drawn = [...new Set(wanted)].filter((key) => runValues.column(key) !== undefined);
    const live = isLive(page);
    const cells = (line, at) => [
      ...drawn.map((key) => runTrace.shown(runValues.column(key), line.series(key), at)),
      ...(live ? [drawnAt.includes(at) ? liveRank(page, line, at).text : null] : []),
      ...runLog.columns.map((key) => runLog.shown(key, at)),
    ];
    return {
      columns: [
        "step", "matrix", ...drawn.map(runTrace.titled),
        ...(live ? [`Rank at ${page.controls.words()}`] : []),
        ...runLog.columns.map((key) => key.replace("_", " ")),
      ],
      rows: part.steps.flatMap((step, at) =>
        lines().map((line) => [step, line.label, ...cells(line, at)])),
    };
  };

  /** The lists to choose from. @param {(name: string) => (value: string) => void} chosen */
  const lists = (chosen) => {
    const one = (label, name, options) =>
      choice.list(label, [{ options }], chosen(name), state[name]).element;
    return [
      choice.list("Lines", runValues.options(), chosen("choice")).element,
      others.length > 1 ? one("Second panel", "other", columnWords.options(others)) : null,
      hasRatio ? one("Norm ratio", "ratio", RATIOS) : null,
      levels.length > 1
        ? one("Lines at ε", "eps", levels.map((eps) => ({ value: eps, label: eps }))) : null,
    ];
  };

  const render = (page, element) => {
    const [key, notes] = [choice.legend(), page.dom("div")];
    const chosen = (name) => (value) => {
      state[name] = value;
      figure.redraw();
    };
    element.append(page.dom("div", { class: "row tools" }, lists(chosen)), key);
    const figure = page.chart(element, {
      label: "Ranks, norm ratio, bound, accuracy and loss over the steps",
      caption: "Drag across any panel to see some steps closer, in all of them; click twice to see all.",
      height: () => runPanels.height(panels(page).length),
      draw: (width) => {
        page.legend(key, legend());
        notes.replaceChildren(...remarks(page).map((text) => page.dom("p", { class: "note" }, text)));
        return runPanels.drawn(panels(page), "step", width);
      },
      table: () => table(page),
    });
    element.append(notes);
    let live = isLive(page);
    page.controls.onChange(runPanels.coalesced(() => {
      if (live || isLive(page)) figure.redraw(); // else nothing in it has changed
      live = isLive(page);
    }));
  };

  sections.push({
    id: "over-steps",
    title: "Over the steps",
    follows: true,
    applies: (data) => "run" in data.parts && part.matrices.length > 0,
    render,
  });
}
