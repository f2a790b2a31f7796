"use strict";

/**
 * The matrices' singular values: some drawn large, all drawn small.
 */
{
  const MOST = 64; // lines in one figure: of more, no eye follows one
  const POINTS = 300; // of a line, of those that stand evenly and again of those on a log scale
  const HEIGHT = 460;

  /** Which of k values a line is drawn through, ascending; of few all. @param {number} k */
  const thinned = (k) => {
    if (k <= 2 * POINTS) return Array.from({ length: k }, (_, i) => i);
    const even = Array.from({ length: POINTS }, (_, i) => Math.round((i * (k - 1)) / (POINTS - 1)));
    const log = Array.from({ length: POINTS }, (_, i) => Math.round(k ** (i / (POINTS - 1))) - 1);
    return [...new Set([...even, ...log])].sort((a, b) => a - b);
  };

  /** How evenly a matrix uses its directions, whatever eps is: 1 for an orthogonal one. */
  const evenness = (spectrum) =>
    spectrum.sigma[0] === 0
      ? 1 // a zero matrix, of which there is nothing to see
      : spectrum.sigma.reduce((sum, one) => sum + one, 0) /
        (spectrum.frobeniusNorm * Math.sqrt(spectrum.sigma.length));

  /** The matrix of each layer kind whose values fall fastest: what to look at first. */
  const first = (page) => {
    const best = new Map();
    for (const row of model.drawn) {
      const even = evenness(page.spectra.curves[row.curve]);
      if (!(even >= best.get(row.group)?.even)) best.set(row.group, { row, even });
    }
    const steepest = [...best.values()].sort((a, b) => a.even - b.even);
    return steepest.slice(0, page.palette.size).map((one) => one.row);
  };

  /** The colour of one of several lines: told apart where they are few, else by their order. */
  const colour = (page, i, count) =>
    count <= page.palette.size ? page.palette.series(i) : page.palette.shade(i / (count - 1));

  const lineOf = (page, row, line) => {
    const spectrum = page.spectra.curves[row.curve];
    const norm = page.metrics.normOf(spectrum, page.controls.norm);
    const places = thinned(spectrum.sigma.length).filter((i) => spectrum.sigma[i] > 0);
    return {
      type: "scatter",
      mode: places.length > 1 ? "lines" : "markers",
      x: places.map((i) => i + 1),
      y: places.map((i) => spectrum.sigma[i] / norm),
      customdata: places.map((i) => page.number(spectrum.sigma[i])),
      name: page.text(model.named(row, 60)),
      hovertemplate: "%{fullData.name}<br>σ<sub>%{x}</sub> = %{customdata} (%{y:.3~g})<extra></extra>",
      line: { color: line, width: 1.6 },
    };
  };

  const ratio = { frobenius: "σ<sub>i</sub> / ‖W‖<sub>F</sub>", spectral: "σ<sub>i</sub> / σ<sub>1</sub>", none: "σ<sub>i</sub>" };

  /**
   * From the least to the largest value drawn, and eps; log10, with room at both ends. What rounding
   * makes of a 0 would take the whole axis: it stays below the figure.
   */
  const rangeOf = (traces, eps) => {
    const ends = traces.filter((one) => one.y.length).flatMap((one) => [one.y[0], one.y.at(-1)]);
    const floor = spectra.ROUNDING * Math.max(...ends);
    const shown = ends.map((one) => Math.max(one, floor));
    const all = [...shown, ...(eps > 0 ? [eps] : [])].map(Math.log10);
    return all.length ? [Math.min(...all) - 0.2, Math.max(...all) + 0.1] : [-3, 0];
  };

  /** What is the case where the figure has no line. @param {object[]} traces */
  const bare = (traces) => {
    if (!traces.length || traces.some((one) => one.x.length > 1)) return "";
    if (traces.every((one) => !one.x.length)) return "Every singular value is 0";
    return traces.every(({ x }, i) => x.length === model.full([...model.chosen][i]))
      ? "One singular value each" : "";
  };

  /** Such a figure's horizontal axis: of the indices that there are. */
  const indices = (logarithmic) => {
    const last = Math.max(...[...model.chosen].map(model.full));
    const ends = [0.5, last + 0.5];
    const few = last === 1 ? { tickvals: [1], dtick: undefined } : {};
    return { range: logarithmic ? ends.map(Math.log10) : ends, ...few };
  };

  const drawn = (page, logarithmic) => {
    const rows = [...model.chosen];
    const { eps, norm } = page.controls;
    const traces = rows.map((row, i) => lineOf(page, row, colour(page, i, rows.length)));
    const line = { color: page.palette.ink, width: 1.5, dash: "dash" };
    const shapes = eps > 0 ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: eps, y1: eps, line }] : [];
    const words = {
      xref: "paper", x: 0.01, xanchor: "left", yref: "y", y: Math.log10(eps), yanchor: "bottom",
      showarrow: false, text: page.controls.short(),
    };
    const said = bare(traces);
    const message = {
      xref: "paper", x: 0.5, yref: "paper", y: 0.5, showarrow: false, text: said,
      font: { size: 15, color: page.palette.muted }, bgcolor: page.palette.surface,
    };
    return {
      traces,
      layout: {
        xaxis: { title: { text: "index i" }, type: logarithmic() ? "log" : "linear", dtick: logarithmic() ? 1 : undefined, ...(said ? indices(logarithmic()) : {}) },
        yaxis: {
          title: { text: ratio[norm] }, type: "log", dtick: 1,
          range: rangeOf(traces, eps),
        },
        shapes,
        annotations: [...(eps > 0 ? [words] : []), ...(said ? [message] : [])],
        uirevision: `${norm} ${logarithmic()}`,
      },
    };
  };

  const legendOf = (page) => {
    if (!model.chosen.size) return [{ label: "Nothing is drawn: press a matrix below.", colour: "transparent" }];
    const rows = [...model.chosen];
    const item = (row, i) => {
      const { value, exact } = model.rank(page, row);
      const rank = `${exact ? "" : "~"}${value} of ${model.full(row)}`;
      return { label: `${model.named(row, 60)}: ${rank}`, colour: colour(page, i, rows.length) };
    };
    if (rows.length <= page.palette.size) return rows.map(item);
    const ends = [0, rows.length - 1].map((i) => item(rows[i], i));
    return [ends[0], { label: `… ${rows.length - 2} between …`, colour: colour(page, rows.length / 2, rows.length) }, ends[1]];
  };

  const numbersOf = () => {
    const rows = [...model.chosen];
    const places = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
    return {
      columns: ["matrix", ...places.map((i) => `σ${i}`), "last"],
      rows: rows.map((row) => {
        const { sigma } = pageSpectrum(row);
        return [model.named(row), ...places.map((i) => (i <= sigma.length ? numbers.number(sigma[i - 1]) : null)), numbers.number(sigma.at(-1))];
      }),
    };
  };
  let pageSpectrum = null;

  sections.push({
    id: "spectra",
    title: model.titled("Spectra"),
    follows: true,
    applies: (all) => "model" in all.parts && model.drawn.length > 0,
    render: (page, element) => {
      pageSpectrum = (row) => page.spectra.curves[row.curve];
      const log = page.dom("input", { type: "checkbox", id: "log-index", checked: true });
      const clear = page.dom("button", { type: "button" }, "Clear");
      const large = page.dom("div");
      const names = page.dom("div");
      const small = page.dom("div");
      model.choose(first(page));
      const made = page.chart(large, {
        caption:
          "Singular values in descending order, relative to the norm above. The rank at ε is the number of values above the dashed line. Drag to zoom, double-click to see all.",
        label: "Singular values of the chosen matrices",
        height: HEIGHT,
        draw: () => drawn(page, () => log.checked),
        table: numbersOf,
      });
      made.figure.prepend(page.dom("div", { class: "row tools" },
        page.dom("label", {}, log, " logarithmic index"), clear));
      made.figure.querySelector(".plot").after(names);
      element.append(large, small);
      const show = () => {
        made.redraw();
        page.legend(names, legendOf(page));
      };
      log.addEventListener("change", show);
      clear.addEventListener("click", () => model.choose([]));
      model.onChoice(show);
      page.controls.onChange(show);
      theme.onChange(() => page.legend(names, legendOf(page)));
      multiples(page, small, MOST);
      show();
    },
  });
}
