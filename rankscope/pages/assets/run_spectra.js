"use strict";

/**
 * The spectrum of one matrix at some snapshots of a run, and its ranks at the threshold there.
 */
{
  const { part } = runValues;
  const EFFECTIVE = part.columns.findIndex((one) => one.name === "effective_rank");

  /** @type {{matrix: number, at: number, logarithmic: boolean}} `at`: which of its snapshots */
  const state = { matrix: part.curves[0]?.[0] ?? 0, at: Infinity, logarithmic: false };

  /** Snapshots at which a matrix's spectrum is in the page, and where. */
  const snapshots = (matrix) =>
    part.curves.flatMap(([which, at], i) => (which === matrix ? [{ at, place: i }] : []));

  const chosen = () => {
    const all = snapshots(state.matrix);
    return { all, index: Math.min(state.at, all.length - 1) };
  };

  const curvesOf = (page) => {
    const { all, index } = chosen();
    return all.map(({ at, place }, i) => {
      const spectrum = page.spectra.curves[place];
      return {
        label: `step ${part.steps[at]}`,
        values: spectrum.sigma,
        unit: page.metrics.normOf(spectrum, page.controls.norm),
        colour: page.palette.shade(all.length > 1 ? i / (all.length - 1) : 0),
        width: i === index ? 4 : 1.5,
      };
    });
  };

  const epochOf = (at) => part.log.epoch?.[at] ?? null;

  const rowsOf = (page) => chosen().all.map(({ at, place }) => {
    const values = EFFECTIVE < 0 ? null : part.series[part.matrices[state.matrix].values[EFFECTIVE]];
    return {
      step: part.steps[at],
      epoch: epochOf(at),
      ...curves.ranks(page, page.spectra.curves[place]),
      effective: values && values[at],
    };
  });

  const EPOCH = {
    key: "epoch", heading: "epoch", kind: "number", cell: (row) => numbers.count(row.epoch),
  };
  const EFFECTIVE_RANK = {
    key: "effective", heading: "effective rank", kind: "number",
    help: "exp of the entropy of the singular values; it has no threshold.",
    cell: (row) => columnWords.value(part.columns[EFFECTIVE], row.effective),
  };

  const columnsOf = () => [
    { key: "step", heading: "step", kind: "number", cell: (row) => String(row.step) },
    ...(part.log.epoch ? [EPOCH] : []),
    ...curves.RANKS,
    ...(EFFECTIVE >= 0 ? [EFFECTIVE_RANK] : []),
  ];

  const slider = (page, onChange) => {
    const input = page.dom("input", {
      type: "range", id: "step-slider", min: 0, step: 1, "aria-label": "Snapshot drawn thick",
      oninput: () => onChange(Number(input.value)),
    });
    const output = page.dom("output", { for: "step-slider" });
    const show = () => {
      const { all, index } = chosen();
      input.max = String(all.length - 1);
      input.value = String(index);
      const words = all.length ? `step ${part.steps[all[index].at]}` : "";
      output.textContent = words;
      input.setAttribute("aria-valuetext", words);
    };
    show();
    return { element: page.dom("label", {}, "Snapshot ", input, " ", output), show };
  };

  const said = (page) => {
    const { all } = chosen();
    const steps = all.map(({ at }) => part.steps[at]).join(", ");
    const count = new Set(part.curves.map(([, at]) => at)).size;
    return [
      `The page holds the spectra of ${count} of the run's ${part.steps.length} snapshots, evenly ` +
        `apart; this matrix's are of steps ${steps}. The threshold above moves the ranks of these, ` +
        "in the table below; those over all steps stay as the run was analysed.",
      ...curves.left(curvesOf(page)),
    ];
  };

  const render = (page, element) => {
    const there = new Set(part.curves.map(([matrix]) => matrix));
    const key = choice.legend();
    const notes = page.dom("div");
    const log = choice.box("logarithmic index", (checked) => {
      state.logarithmic = checked;
      figure.redraw();
    });
    const snapshot = slider(page, (at) => {
      state.at = at;
      snapshot.show();
      figure.redraw();
    });
    const groups = choice.byKind(part.matrices, (i) => there.has(i));
    const matrices = choice.list("Matrix", groups, (value) => {
      state.matrix = Number(value);
      snapshot.show();
      figure.redraw();
      ranks.update(rowsOf(page));
    }, String(state.matrix));
    element.append(page.dom("div", { class: "row tools" },
      matrices.element, snapshot.element, log), key);
    const figure = page.chart(element, {
      label: "The spectrum of one matrix at several steps",
      caption: "Singular values in descending order; from the darkest line, the first snapshot, to " +
        "the lightest, the last. The rank is the number of values above the dashed line.",
      draw: () => {
        const drawn = curvesOf(page);
        page.legend(key, drawn.map(({ label, colour }) => ({ label, colour })));
        notes.replaceChildren(...said(page).map((one) => page.dom("p", { class: "note" }, one)));
        const mark = curves.threshold(page.controls.eps, page.palette.ink, page.controls.words());
        return curves.figure(drawn, [mark], page.controls.norm, state.logarithmic);
      },
      table: () => curves.table(curvesOf(page)),
    });
    element.append(notes);
    const ranks = page.table(element, {
      caption: "Ranks of the matrix at these steps, at the threshold above",
      columns: columnsOf(),
      rows: rowsOf(page),
      filter: null,
    });
    page.controls.onChange(runPanels.coalesced(() => {
      figure.redraw();
      ranks.update(rowsOf(page));
    }));
  };

  sections.push({
    id: "spectra-over-steps",
    title: "Spectra over the steps",
    follows: true,
    applies: (data) => "run" in data.parts && part.curves.length > 0,
    render,
  });
}
