"use strict";

/**
 * Every matrix before and after, and how far it moved in how many directions.
 */
{
  const { part } = diff;
  const TALL = 300; // pixels of a panel
  const [SMALL, LARGE] = [8, 13]; // pixels of a dot, and of the one that is looked at
  const LETTERS = 60; // of a name
  const WIDE = 5; // how much further one moved than another, for the axis to be logarithmic

  const first = ["rank", "effective_rank"].map(diff.columnIndex).find((i) => i >= 0);
  const state = { column: first ?? 0 };

  const column = () => part.columns[state.column];
  const inColumn = (values) => columnWords.value(column(), values[state.column]);

  /** @typedef {{matrix: object, place: number, x: number, y: number}} Dot */

  /** Matrices with a finite number on both sides. @returns {Dot[]} */
  const there = () => part.matrices.flatMap((matrix, place) => {
    const [x, y] = [matrix.values_before, matrix.values]
      .map((values) => diff.number(values[state.column]));
    return Number.isFinite(x) && Number.isFinite(y) ? [{ matrix, place, x, y }] : [];
  });

  /** Where B - A is not zero, over the norm of A; the directions above rounding. @returns {Dot[]} */
  const moved = () => part.matrices.flatMap((matrix, place) => {
    const x = diff.number(matrix.relative);
    const y = diff.directions < 0 ? null : diff.number(matrix.delta[diff.directions]);
    return Number.isFinite(x) && x > 0 && y !== null ? [{ matrix, place, x, y }] : [];
  });

  /** @param {Dot[]} points @param {(point: Dot) => string} words */
  const dots = (points, words) => ({
    type: "scatter",
    mode: "markers",
    x: points.map(({ x }) => x),
    y: points.map(({ y }) => y),
    text: points.map(({ matrix }) => numbers.text(numbers.short(matrix.name, LETTERS))),
    customdata: points.map(words),
    hovertemplate: "%{text}<br>%{customdata}<extra></extra>",
    marker: {
      size: points.map(({ place }) => (place === diff.chosen ? LARGE : SMALL)),
      color: points.map(({ matrix }) => (matrix.equal ? palette.muted : palette.series(0))),
      opacity: 1, // of dots of several sizes Plotly's own is less
      line: { // dots may overlap
        width: points.map(({ place }) => (place === diff.chosen ? 2 : 1)),
        color: points.map(({ place }) => (place === diff.chosen ? palette.ink : palette.surface)),
      },
    },
  });

  const beforeAfter = (width) => {
    const points = there();
    const all = points.flatMap(({ x, y }) => [x, y]);
    const [least, most] = [Math.min(0, ...all), Math.max(1, ...all)];
    const words = ({ matrix }) => `${inColumn(matrix.values_before)} → ${inColumn(matrix.values)}`;
    const diagonal = () => [{
      type: "line", x0: least, y0: least, x1: most, y1: most, layer: "below",
      line: { color: palette.muted, width: 1, dash: "dash" },
    }];
    const title = `${columnWords.capital(columnWords.title(column()))} after`;
    return runPanels.drawn(
      [{ title, traces: [dots(points, words)], shapes: diagonal }],
      "before", width, { tall: TALL, xaxis: { showspikes: false } },
    );
  };

  const directions = (width) => {
    const points = moved();
    const words = ({ matrix, x, y }) => `moved by ${diff.percent(x)} in ` +
      `${numbers.counted(y, "direction", "directions")} of ${diff.full(matrix)}`;
    const all = points.map(({ x }) => x);
    const type = Math.max(...all) > WIDE * Math.min(...all) ? "log" : "linear";
    const traces = [dots(points, words)];
    return runPanels.drawn(
      [{ title: "Directions of B − A above rounding", traces, axis: { rangemode: "tozero" } }],
      "‖B − A‖ / ‖A‖, Frobenius", width,
      { tall: TALL, xaxis: { type, tickformat: ".2~%", showspikes: false } },
    );
  };

  /**
   * A chart whose dots show their spectra when they are clicked; the list of matrices and the names
   * in the table do so for the keyboard.
   * @param {() => Dot[]} points @param {object} options of `page.chart`
   */
  const clickable = (page, place, points, { draw, ...options }) => {
    const listen = () => {
      const plot = made.figure.querySelector(".plot");
      if (plot.dataset.listens || !plot.on) return;
      plot.dataset.listens = "yes";
      plot.on("plotly_click", (event) => diff.choose(points()[event.points[0].pointNumber].place));
    };
    const made = page.chart(place, {
      ...options,
      height: runPanels.height(1, TALL),
      draw: (width) => {
        queueMicrotask(listen); // it can be listened to once it has been drawn
        return draw(width);
      },
    });
    return made;
  };

  const said = () => {
    const [all, lines] = [part.matrices.length, []];
    const [without, still] = [all - there().length, all - moved().length];
    if (without) {
      lines.push(`Not drawn before and after: ${without} of ${all} matrices, which lack the value ` +
        "on one side or both.");
    }
    if (!diff.hasDelta) lines.push("B − A was not measured.");
    else if (still) {
      lines.push(`Not among the directions: ${still} of ${all} matrices, which did not move, or of ` +
        "which B − A could not be measured.");
    }
    return lines;
  };

  const chartsOf = (page, place) => {
    const charts = [clickable(page, place, there, {
      label: "Every matrix before and after",
      caption: "A dot is a matrix: below the dashed diagonal it has lost, above it gained; equal " +
        "ones are grey. Click one for its spectra.",
      draw: beforeAfter,
      table: () => ({
        columns: ["matrix", "before", "after"],
        rows: part.matrices.map((matrix) =>
          [matrix.name, inColumn(matrix.values_before), inColumn(matrix.values)]),
      }),
    })];
    if (!moved().length) return charts;
    return [...charts, clickable(page, place, moved, {
      label: "How far every matrix moved, in how many directions",
      caption: "In how many directions a matrix moved: singular values of B − A above what the " +
        "rounding of both to their types can make.",
      draw: directions,
      table: () => ({
        columns: ["matrix", "‖B − A‖ / ‖A‖", "directions", "of"],
        rows: moved().map(({ matrix, x, y }) => [matrix.name, diff.percent(x), y, diff.full(matrix)]),
      }),
    })];
  };

  const render = (page, element) => {
    const [both, notes] = [page.dom("div", { class: "beside" }), page.dom("div")];
    const redraw = () => {
      charts.forEach((chart) => chart.redraw());
      notes.replaceChildren(...said().map((text) => page.dom("p", { class: "note" }, text)));
    };
    const options = part.columns.map((one, i) => ({ value: String(i), label: columnWords.title(one) }));
    const values = choice.list("Value", [{ options }], (value) => {
      state.column = Number(value);
      redraw();
    }, String(state.column));
    const tools = page.dom("div", { class: "row tools" }, values.element);
    element.append(tools, both, choice.stays(page), notes);
    const charts = chartsOf(page, both);
    redraw();
    diff.onChoice(redraw);
  };

  sections.push({
    id: "moved",
    title: "How far it moved",
    applies: (data) => "diff" in data.parts && part.matrices.length > 0 && part.columns.length > 0,
    render,
  });
}
