"use strict";

/**
 * A chart of spectra, for the sections of runs, sweeps and differences.
 *
 * @typedef {object} Curve
 * @property {string} label
 * @property {ArrayLike<number>} values descending
 * @property {number} unit what they are divided by
 * @property {string} colour
 * @property {number} [width]
 * @property {string} [dash]
 * @property {number} [opacity]
 */
const curves = (() => {
  const MOST = 2000; // values that a line is drawn through: as many as a wide screen has pixels
  const LABELS = 8; // on the axis of values, at most
  const UNITS = { frobenius: "σᵢ / ‖W‖F", spectral: "σᵢ / σ₁", none: "σᵢ" };

  /** Which of k values a line is drawn through: of more than fit, evenly, more of the large ones. */
  const places = (k) => {
    if (k <= MOST) return Array.from({ length: k }, (_, i) => i);
    const half = MOST / 2;
    const even = Array.from({ length: half }, (_, i) => Math.round((i * (k - 1)) / (half - 1)));
    const log = Array.from({ length: half }, (_, i) => Math.round(k ** (i / (half - 1))) - 1);
    return [...new Set([...even, ...log])].sort((a, b) => a - b);
  };

  /** @param {Curve} curve */
  const trace = ({ label, values, unit, colour, width = 2, dash = "solid", opacity = 1 }) => {
    // What is 0 has no place on a logarithmic axis.
    const drawn = places(values.length).filter((i) => values[i] > 0 && unit > 0);
    return {
      type: "scatter",
      mode: drawn.length > 1 ? "lines" : "markers",
      x: drawn.map((i) => i + 1),
      y: drawn.map((i) => values[i] / unit),
      meta: numbers.text(label),
      hovertemplate: "%{meta}<br>i = %{x}: %{y:.3~g}<extra></extra>",
      line: { color: colour, width, dash },
      marker: { color: colour },
      opacity,
    };
  };

  /** A line at a threshold, with words where there are any. */
  const threshold = (y, colour, words) => {
    if (!(y > 0)) return { shapes: [], annotations: [] };
    const line = { color: colour, width: 1.5, dash: "dash" };
    const text = {
      text: numbers.text(words), font: { color: palette.ink }, showarrow: false,
      xref: "paper", x: 1, xanchor: "right", y: Math.log10(y), yanchor: "bottom",
    };
    return {
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line }],
      annotations: words ? [text] : [],
    };
  };

  /**
   * @param {Curve[]} drawn
   * @param {{shapes: object[], annotations: object[]}[]} marks
   * @param {string} unit of the values: a norm's name, or words
   * @param {boolean} logarithmic the index
   */
  const figure = (drawn, marks, unit, logarithmic) => {
    const ends = drawn.map(({ values, unit: norm }) => [values[0] / norm, least(values) / norm]);
    const marked = marks.flatMap((mark) => mark.shapes.map(({ y0 }) => y0));
    const largest = Math.max(...ends.map(([high]) => high).filter(Number.isFinite));
    const shown = [...ends.flat(), ...marked].filter((value) => value > 0 && Number.isFinite(value));
    // What rounding makes of a 0 would take the whole axis: it stays below the figure.
    const low = Math.max(Math.min(...shown), largest * spectra.ROUNDING);
    const room = shown.length && largest > 0
      ? { range: [Math.log10(low) - 0.2, Math.log10(Math.max(...shown)) + 0.1] } : {};
    return {
      traces: drawn.map(trace),
      layout: {
        xaxis: { title: { text: "index i" }, type: logarithmic ? "log" : "linear" },
        yaxis: { title: { text: UNITS[unit] ?? unit }, ...runPanels.logarithmic([[low, ...shown.filter((value) => value >= low)]], LABELS), ...room },
        shapes: marks.flatMap((mark) => mark.shapes),
        annotations: marks.flatMap((mark) => mark.annotations),
        uirevision: `${unit} ${logarithmic}`,
      },
    };
  };

  /** The numbers of a chart of spectra. @param {Curve[]} drawn */
  const table = (drawn) => {
    const longest = Math.max(...drawn.map(({ values }) => values.length));
    return {
      columns: ["i", ...drawn.map(({ label }) => label)],
      rows: places(longest).map((i) => [
        i + 1,
        ...drawn.map(({ values, unit }) =>
          (i < values.length && unit > 0 ? numbers.number(values[i] / unit) : null)),
      ]),
    };
  };

  /** The least value that is drawn. @param {ArrayLike<number>} values descending */
  const least = (values) => {
    let last = values.length - 1;
    while (last > 0 && !(values[last] > 0)) last -= 1;
    return values[last];
  };

  /** What is not drawn, in sentences. @param {Curve[]} drawn */
  const left = (drawn) => {
    const said = [];
    const longest = Math.max(...drawn.map(({ values }) => values.length));
    if (longest > MOST) {
      said.push(`Lines pass through ${places(longest).length} of ${longest} singular values; ` +
        "counts are over all.");
    }
    const zeros = drawn.map(({ values }) => Array.from(values).filter((value) => value === 0).length)
      .reduce((sum, count) => sum + count, 0);
    if (zeros) {
      said.push(`Of the singular values, ${zeros} are exactly 0 and have no place on a ` +
        "logarithmic axis.");
    }
    return said;
  };

  /** What a spectrum's rank and its like are at the threshold above. @param {Spectrum} spectrum */
  const ranks = (page, spectrum) => {
    const { rank, approximationRank, headMass } = page.metrics;
    const { eps, norm } = page.controls;
    return {
      rank: rank(spectrum, eps, norm),
      approximation: approximationRank(spectrum, eps, norm),
      mass: headMass(spectrum, eps, norm),
    };
  };

  const reading = (key, shown) => ({
    kind: "number",
    value: (row) => row[key].value,
    cell: (row) => (row[key].exact ? "" : "~") + shown(row[key].value),
  });

  /** Columns of a table whose rows hold `ranks`. */
  const RANKS = [
    {
      key: "rank", heading: "rank", help: "Singular values above ε times the norm.",
      ...reading("rank", numbers.count),
    },
    {
      key: "approximation", heading: "approx. rank",
      help: "The least rank of a matrix within ε times the norm: what the theorem bounds.",
      ...reading("approximation", numbers.count),
    },
    {
      key: "mass", heading: "head mass",
      help: "The share of the nuclear norm in the values that the rank counts.",
      ...reading("mass", numbers.share),
    },
  ];

  return Object.freeze({ figure, threshold, table, left, ranks, RANKS });
})();
