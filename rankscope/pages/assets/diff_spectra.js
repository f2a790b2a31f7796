"use strict";

/**
 * One matrix's spectrum before and after, and that of what changed.
 */
{
  const { part } = diff;
  const SIDES = [
    { side: "before", label: "before (A)", colour: 0, width: 2 },
    { side: "after", label: "after (B)", colour: 1, width: 2 },
    { side: "moved", label: "B − A", colour: 2, width: 5 }, // behind: it may be as large as A or B
  ];
  const LETTERS = { before: "A", after: "B" };
  const AXES = {
    frobenius: (letter) => `σᵢ / ‖${letter}‖F`, spectral: (letter) => `σᵢ / σ₁(${letter})`, none: () => "σᵢ",
  };
  const NOTHING = { shapes: [], annotations: [] };

  const state = { logarithmic: false };

  const there = (matrix) => SIDES.some(({ side }) => part.curves[side].includes(matrix));

  const sides = (page) => SIDES.flatMap((one) => {
    const spectrum = diff.spectrum(page, one.side, diff.chosen);
    return spectrum === undefined ? [] : [{ ...one, spectrum }];
  });

  const normOf = (page, spectrum) => page.metrics.normOf(spectrum, page.controls.norm);

  /** What all are drawn relative to, so that sizes can be compared: A, or B where A has no norm. */
  const base = (page) =>
    sides(page).find(({ side, spectrum }) => side in LETTERS && normOf(page, spectrum) > 0);

  const unit = (page) => {
    const found = base(page);
    return found ? normOf(page, found.spectrum) : 1;
  };

  const axis = (page) => {
    const found = base(page);
    return found ? AXES[page.controls.norm](LETTERS[found.side]) : AXES.none();
  };

  const curvesOf = (page) => sides(page).map(({ label, colour, width, spectrum }) => ({
    label, values: spectrum.sigma, unit: unit(page), colour: page.palette.series(colour), width,
  }));

  /** Of each side the threshold, which is relative to its own norm. */
  const thresholds = (page) => sides(page).map(({ colour, spectrum }) => {
    const height = (page.controls.eps * normOf(page, spectrum)) / unit(page);
    return curves.threshold(height, page.palette.series(colour), "");
  });

  /** What the rounding of A and B to their types can make. */
  const noise = (page) => {
    const { noise: size } = part.matrices[diff.chosen];
    if (!size || !diff.spectrum(page, "moved", diff.chosen)) return NOTHING;
    const mark = curves.threshold(size / unit(page), page.palette.muted, "rounding");
    mark.shapes.forEach((shape) => Object.assign(shape.line, { dash: "dot" }));
    return mark;
  };

  const rowsOf = (page) => sides(page).map(({ label, spectrum }) => ({
    label,
    ...curves.ranks(page, spectrum),
    largest: spectrum.sigma[0],
    norm: spectrum.frobeniusNorm,
  }));

  const COLUMNS = [
    { key: "label", heading: "spectrum of" },
    ...curves.RANKS,
    { key: "largest", heading: "σ₁", kind: "number" },
    { key: "norm", heading: "‖·‖F", kind: "number" },
  ];

  /** Why there is no spectrum of B - A, and what the lines leave out. */
  const said = (page) => {
    const { equal, notes, delta_status: status } = part.matrices[diff.chosen];
    const lines = [];
    if (!diff.hasDelta) lines.push("B − A was not measured.");
    else if (diff.spectrum(page, "moved", diff.chosen) === undefined) {
      const why = equal ? "equal in every entry" : notes.delta_status ?? status ?? "zero";
      lines.push(`There is no spectrum of B − A: ${why}.`);
    }
    const drawn = curvesOf(page);
    return drawn.length
      ? [...lines, ...curves.left(drawn)]
      : [...lines, "Neither side has a spectrum of it."];
  };

  const render = (page, element) => {
    const [key, notes] = [choice.legend(), page.dom("div")];
    const log = choice.box("logarithmic index", (checked) => {
      state.logarithmic = checked;
      figure.redraw();
    });
    const groups = choice.byKind(part.matrices, there);
    const choose = (value) => diff.choose(Number(value));
    const matrices = choice.list("Matrix", groups, choose, String(diff.chosen));
    element.append(page.dom("div", { class: "row tools" }, matrices.element, log), key);
    const figure = page.chart(element, {
      label: "The spectrum of one matrix before and after, and of B − A",
      caption: "Singular values, all over what the axis says. Dashed, in the colour of each: ε times its " +
        "own norm, above which its rank counts. Dotted: what rounding to the stored types can make " +
        "of B − A.",
      draw: () => {
        const drawn = curvesOf(page);
        page.legend(key, drawn.map(({ label, colour }) => ({ label, colour })));
        notes.replaceChildren(...said(page).map((text) => page.dom("p", { class: "note" }, text)));
        const marks = [...thresholds(page), noise(page)];
        return curves.figure([...drawn].reverse(), marks, axis(page), state.logarithmic);
      },
      table: () => curves.table(curvesOf(page)),
    });
    element.append(notes);
    const ranks = page.table(element, {
      caption: "Its ranks at the threshold above", columns: COLUMNS, rows: rowsOf(page), filter: null,
    });
    const redraw = () => {
      matrices.select.value = String(diff.chosen);
      figure.redraw();
      ranks.update(rowsOf(page));
    };
    diff.onChoice(redraw);
    page.controls.onChange(runPanels.coalesced(redraw));
  };

  sections.push({
    id: "spectra-moved",
    title: "Spectra of one matrix",
    follows: true,
    applies: (data) => "diff" in data.parts && part.matrices.some((_, i) => there(i)),
    render,
  });
}
