"use strict";

/**
 * What bounds the rank, beside it: thick where it says something, thin where it is vacuous.
 */
const runBounds = (() => {
  const KINDS = {
    bound_closed: { label: "closed-form bound (Theorem 3.3)", dash: "dot", key: "dotted" },
    bound_exact: { label: "exact bound (steps counted)", dash: "dash", key: "dashed" },
    bound_measured: {
      label: "measured bound (Lemma 3.2, the run's own norms)", dash: "longdashdot", key: "double",
    },
  };
  const [THIN, THICK] = [1.2, 3]; // pixels
  const MANY_SIZES = 4; // distinct full ranks; of more no eye tells whose is whose

  /** The columns there are at a threshold. */
  const keys = (eps) =>
    Object.keys(KINDS).map((name) => runValues.keyOf(name, eps)).filter((key) => key !== undefined);

  /** What the theorem bounds, where that was asked for; else the rank, which is never above it. */
  const bounded = (eps) =>
    runValues.keyOf("approximation_rank", eps) ?? runValues.keyOf("rank", eps);

  /** Lines whose bound is one and the same, together. @param {Line[]} lines */
  const alike = (lines, key) => {
    const found = new Map();
    for (const line of lines) {
      const { values } = line.series(key);
      if (!values.some((value) => Number.isFinite(value))) continue;
      const word = JSON.stringify(values);
      found.set(word, [...(found.get(word) ?? []), line]);
    }
    return [...found.values()];
  };

  /** @param {string} key @param {Line[]} lines of one and the same bound */
  const traces = (key, lines) => {
    const column = runValues.column(key);
    const { label, dash } = KINDS[column.name];
    const series = lines[0].series(key);
    const smaller = Math.max(...lines.map((line) => line.smaller));
    const speaks = (value) => value !== null && value < smaller;
    const whose = lines.length > 1 ? `${label}, ${lines.length} lines` : `${label}: ${lines[0].label}`;
    const colour = lines.length > 1 ? () => palette.muted : lines[0].colour;
    const words = runTrace.wordsOf(column, series)
      .map((word, at) => (speaks(series.values[at]) ? word : `${word}, vacuous`));
    const look = { label: whose, colour, width: THIN, dash };
    const thin = runTrace.trace(look, series.values, words, { mode: "lines" });
    return [thin, {
      ...thin,
      y: series.values.map((value) => (speaks(value) ? value : null)),
      line: { ...thin.line, width: THICK },
      hoverinfo: "skip",
      hovertemplate: undefined,
    }];
  };

  /** Dotted, where a rank is full. */
  const fullRanks = (lines) => (axis) => {
    const sizes = [...new Set(lines.map((line) => line.smaller))];
    if (sizes.length > MANY_SIZES) return [];
    return sizes.map((y) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, yref: axis, y0: y, y1: y, layer: "below",
      line: { color: palette.muted, width: 1, dash: "dot" },
    }));
  };

  /** Which kinds of bounds have a value in some line. @param {Line[]} lines */
  const there = (lines, eps) => keys(eps).filter((key) => alike(lines, key).length > 0);

  /** @param {Line[]} lines @param {string} eps @returns {Panel | null} null where there is no bound */
  const panel = (lines, eps) => {
    const drawn = there(lines, eps);
    if (!drawn.length) return null;
    const key = bounded(eps);
    const made = [
      ...(key === undefined ? [] : runTrace.column(lines, key)),
      ...drawn.flatMap((one) => alike(lines, one).flatMap((same) => traces(one, same))),
    ];
    const what = key === undefined
      ? "Bounds on the rank"
      : `${columnWords.capital(runValues.column(key).title)} and its bounds`;
    return {
      title: `${what} at ε = ${eps}`,
      traces: made,
      axis: runPanels.logarithmic(made.map(({ y }) => y)),
      shapes: fullRanks(lines),
    };
  };

  /** Entries of a legend. @param {Line[]} lines */
  const legend = (lines, eps) => there(lines, eps).map((key) => {
    const { label, key: dash } = KINDS[runValues.column(key).name];
    return { label, colour: palette.muted, dash };
  });

  return Object.freeze({ names: Object.keys(KINDS), kinds: KINDS, keys, bounded, panel, legend });
})();
