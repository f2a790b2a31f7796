"use strict";

/**
 * Where the runs ended, by the setting in which they differ: a value, and the accuracy beside it.
 */
{
  const { part } = sweep;
  const WIDEST = 4; // the largest level over the least, from which on an axis is logarithmic
  const TALL = 270; // pixels of a panel
  const LETTERS = 18; // of a run's name below the axis

  const state = {
    axis: sweep.axes[0]?.[0] ?? sweep.BY_RUN,
    column: part.columns.find(({ name }) => name === "rank") ?? part.columns[0],
  };

  // The axis.

  const isByRun = () => state.axis === sweep.BY_RUN;

  const level = (run) => (isByRun() ? part.runs[run].name : part.runs[run].settings[state.axis]);

  const levels = () => {
    const found = [...new Set(sweep.groups(state.axis).flatMap(({ runs }) => runs.map(level)))];
    return isByRun() ? found : found.sort((a, b) => a - b);
  };

  /** How levels stand on the axis: on a log scale, or evenly where one of them is 0. */
  const scale = () => {
    const all = levels();
    if (isByRun() || !(all[0] > 0)) return "even";
    return all.at(-1) / all[0] >= WIDEST ? "log" : "linear";
  };

  const place = (run) => (scale() === "even" ? levels().indexOf(level(run)) : level(run));

  const xaxis = () => {
    const [all, kind] = [levels(), scale()];
    return {
      type: kind === "log" ? "log" : "linear",
      showspikes: false,
      tickmode: "array",
      ticktext: all.map((one) => numbers.text(numbers.short(sweep.words(one), LETTERS))),
      tickvals: kind === "even" ? all.map((_, i) => i) : all,
      ...(kind === "even" ? { range: [-0.5, all.length - 0.5] } : {}),
    };
  };

  const unit = () => sweep.heading(state.axis) +
    (scale() === "even" && !isByRun() ? " (levels evenly apart)" : "");

  // The lines.

  const runWords = (run) => {
    const { name, settings } = part.runs[run];
    return settings.seed === null ? name : `${name}, seed ${settings.seed}`;
  };

  /**
   * Dots for the runs of a group, a line through their means.
   * @param {{label: string, runs: number[]}} group
   * @param {string} colour
   * @param {{of: (run: number) => number | null, words: (value: number) => string}} value
   * @param {{dash?: string, open?: boolean, what?: string}} [look]
   */
  const pair = (group, colour, { of, words }, { dash = "solid", open = false, what = "" } = {}) => {
    const there = group.runs.filter((run) => Number.isFinite(of(run)));
    const byPlace = new Map();
    for (const run of there) byPlace.set(place(run), [...(byPlace.get(place(run)) ?? []), of(run)]);
    const means = [...byPlace].sort(([a], [b]) => a - b)
      .map(([x, values]) => ({ x, y: sweep.mean(values), count: values.length }));
    const dots = {
      type: "scatter",
      mode: "markers",
      x: there.map(place),
      y: there.map(of),
      text: there.map((run) => numbers.text(runWords(run))),
      customdata: there.map((run) => what + words(of(run))),
      hovertemplate: "%{text}<br>%{customdata}<extra></extra>",
      marker: {
        size: 9, color: colour, symbol: open ? "circle-open" : "circle",
        line: open ? { width: 2 } : { width: 1, color: palette.surface }, // dots may overlap
      },
    };
    const line = {
      type: "scatter",
      mode: "lines",
      x: means.map(({ x }) => x),
      y: means.map(({ y }) => y),
      meta: numbers.text(group.label || "mean"),
      customdata: means.map(({ y, count }) => `${what}mean ${words(y)} of ${count}`),
      hovertemplate: "%{meta}<br>%{customdata}<extra></extra>",
      line: { color: colour, width: 2, dash },
    };
    return isByRun() ? [dots] : [line, dots];
  };

  /** @param {object} value as of `pair` @param {object} [look] likewise */
  const traces = (value, look) => {
    const groups = sweep.groups(state.axis);
    const colours = sweep.coloursOf(groups);
    return groups.flatMap((group, i) => pair(group, colours[i], value, look));
  };

  const finals = (page) => ({
    of: (run) => sweep.final(page, run, state.column),
    words: (value) => columnWords.value(state.column, value),
  });

  const SIDES = [
    { key: "test_accuracy", look: { what: "test: " } },
    { key: "train_accuracy", look: { what: "train: ", dash: "dot", open: true } },
  ].filter(({ key }) => part.runs.some((run) => Number.isFinite(run.log[key])));

  const accuracy = (key) => ({ of: (run) => part.runs[run].log[key] ?? null, words: numbers.number });

  const titled = (page) => columnWords.capital(columnWords.title(
    state.column, sweep.follows(state.column) ? page.controls.words() : undefined,
  ));

  const drawn = (title, all, axis, width) =>
    runPanels.drawn([{ title, traces: all, axis }], unit(), width, { tall: TALL, xaxis: xaxis() });

  /** @param {{heading: string, value: object}[]} columns */
  const table = (columns) => ({
    columns: [sweep.heading(state.axis), "other settings", "run", ...columns.map((one) => one.heading)],
    rows: sweep.groups(state.axis).flatMap(({ label, runs }) => runs.map((run) => [
      sweep.words(level(run)), label, runWords(run),
      ...columns.map(({ value }) => value.words(value.of(run))),
    ])),
  });

  const legend = () => {
    const groups = sweep.groups(state.axis);
    const colours = sweep.coloursOf(groups);
    const named = groups.map(({ label }, i) => ({ label, colour: colours[i] }))
      .filter(({ label }) => label);
    if (named.length < 2 * palette.size) return named;
    return [named[0], named[Math.floor(named.length / 2)], named.at(-1)];
  };

  /** What is not drawn, and what the threshold does not move. */
  const said = (page) => {
    const there = sweep.groups(state.axis).flatMap(({ runs }) => runs);
    const lines = [];
    if (there.length < part.runs.length) {
      lines.push(`Not drawn: ${part.runs.length - there.length} of ${part.runs.length} runs, which ` +
        `do not record ${sweep.heading(state.axis)}.`);
    }
    const without = there.filter((run) => !Number.isFinite(sweep.final(page, run, state.column)));
    if (without.length) {
      lines.push(`Not drawn: ${without.length} of ${there.length} runs, which have no ` +
        `${state.column.title}.`);
    }
    if (!page.controls.asAsked) {
      lines.push(sweep.follows(state.column)
        ? "The dots follow the threshold above; the trends stay as the runs were analysed."
        : "The threshold above does not move these: they stay as the runs were analysed.");
    }
    return lines;
  };

  const valueChart = (page, place, key) => page.chart(place, {
    label: "Where the runs ended, by setting",
    caption: "A dot is a run, at its last snapshot; lines pass through the means of runs that " +
      "differ in the seed only.",
    height: runPanels.height(1, TALL),
    draw: (width) => {
      page.legend(key, legend());
      const axis = { rangemode: state.column.counts ? "tozero" : "normal" };
      return drawn(titled(page), traces(finals(page)), axis, width);
    },
    table: () => table([{ heading: titled(page), value: finals(page) }]),
  });

  const accuracyChart = (page, place) => page.chart(place, {
    label: "Accuracy of the runs, by setting",
    caption: SIDES.length > 1
      ? "Accuracy at the same snapshots: filled dots for the test data, open ones and dotted lines " +
        "for the training data."
      : "Accuracy at the same snapshots.",
    height: runPanels.height(1, TALL),
    draw: (width) => drawn(
      "Accuracy", SIDES.flatMap(({ key, look }) => traces(accuracy(key), look)), { tickformat: ".0%" },
      width,
    ),
    table: () => table(SIDES.map(({ key }) => (
      { heading: key.replace("_", " "), value: accuracy(key) }))),
  });

  const render = (page, element) => {
    const [key, both] = [choice.legend(), page.dom("div", { class: "beside" })];
    const notes = page.dom("div");
    const say = () =>
      notes.replaceChildren(...said(page).map((text) => page.dom("p", { class: "note" }, text)));
    const redraw = () => {
      charts.forEach((chart) => chart.redraw());
      say();
    };
    const values = choice.list("Value", [{ options: columnWords.options(part.columns) }], (value) => {
      state.column = part.columns.find((column) => column.key === value);
      redraw();
    }, state.column.key);
    const against = choice.list("against", [{ options: sweep.axisOptions() }], (value) => {
      state.axis = value;
      redraw();
    }, state.axis);
    element.append(
      page.dom("div", { class: "row tools" }, values.element, against.element), key, both, notes,
    );
    const charts = [valueChart(page, both, key)];
    if (SIDES.length) charts.push(accuracyChart(page, both));
    say();
    page.controls.onChange(runPanels.coalesced(redraw));
  };

  sections.push({
    id: "final",
    title: "Where the runs ended",
    follows: true,
    applies: (data) => "sweep" in data.parts && part.columns.length > 0,
    render,
  });
}
