"use strict";

/**
 * The means of each run over its steps: how the runs came to where they ended.
 */
{
  const { part } = sweep;
  const TALL = 220; // pixels of a panel

  const hasEpochs = part.runs.every((run) => run.logs.epoch !== undefined);
  const state = {
    column: part.columns.find(({ name }) => name === "rank") ?? part.columns[0],
    axis: sweep.axes[0]?.[0] ?? sweep.BY_RUN,
    unit: hasEpochs ? "epoch" : "step", // runs of other batch sizes have other numbers of steps
  };

  const ACCURACIES = [
    { key: "test_accuracy", title: "Accuracy on the test data" },
    { key: "train_accuracy", title: "Accuracy on the training data" },
  ];
  const accuracy = ACCURACIES.find(({ key }) => part.runs.some((run) => key in run.logs));

  const x = (run) => sweep.series(state.unit === "epoch" ? run.logs.epoch : run.steps);

  const level = (run) => (state.axis === sweep.BY_RUN ? run.name : run.settings[state.axis]);

  /** Levels in their order, and their colours, dark to light; runs without one in grey. */
  const shades = () => {
    const known = part.runs.map(level).filter((one) => one !== null && one !== undefined);
    const all = [...new Set(known)];
    if (state.axis !== sweep.BY_RUN) all.sort((a, b) => a - b);
    const shade = (one) => {
      const at = all.indexOf(one);
      return at < 0 ? palette.muted : palette.shade(all.length > 1 ? at / (all.length - 1) : 0);
    };
    return { all, shade };
  };

  const inColumn = (value) => columnWords.value(state.column, value);

  const trace = (run, values, words, shade) => ({
    type: "scatter",
    mode: "lines",
    x: x(run),
    y: values,
    meta: numbers.text(run.name),
    connectgaps: true,
    customdata: values.map(words),
    hovertemplate: `%{meta}<br>${state.unit} %{x}: %{customdata}<extra></extra>`,
    line: { color: shade(level(run)), width: 1.8 },
  });

  const titled = () => `Mean ${columnWords.title(state.column)}`;

  const means = (run) => sweep.series(run.means[part.columns.indexOf(state.column)]);

  const panels = () => {
    const { shade } = shades();
    const found = [{
      title: titled(),
      traces: part.runs.map((run) => trace(run, means(run), inColumn, shade)),
      axis: state.column.counts ? { rangemode: "tozero" } : {},
    }];
    if (!accuracy) return found;
    const { key, title } = accuracy;
    const logged = part.runs.filter((run) => key in run.logs);
    return [...found, {
      title,
      traces: logged.map((run) => trace(run, sweep.series(run.logs[key]), numbers.number, shade)),
      axis: { tickformat: ".0%" },
    }];
  };

  const legend = () => {
    const { all, shade } = shades();
    const some = all.length <= 2 * palette.size
      ? all
      : [all[0], all[Math.floor(all.length / 2)], all.at(-1)];
    return some.map((one) => ({
      label: state.axis === sweep.BY_RUN ? one : `${sweep.heading(state.axis)} ${sweep.words(one)}`,
      colour: shade(one),
    }));
  };

  const table = () => {
    const logged = (run, i) =>
      (accuracy.key in run.logs ? numbers.number(sweep.series(run.logs[accuracy.key])[i]) : null);
    return {
      columns: ["run", state.unit, titled(), ...(accuracy ? [accuracy.key.replace("_", " ")] : [])],
      rows: part.runs.flatMap((run) => x(run).map((step, i) => [
        run.name, step, inColumn(means(run)[i]), ...(accuracy ? [logged(run, i)] : []),
      ])),
    };
  };

  const UNITS = [{ value: "epoch", label: "epochs" }, { value: "step", label: "steps" }];

  const render = (page, element) => {
    const key = choice.legend();
    const chosen = (name, of = (value) => value) => (value) => {
      state[name] = of(value);
      figure.redraw();
    };
    const columnOf = (value) => part.columns.find((column) => column.key === value);
    const columns = columnWords.options(part.columns);
    element.append(page.dom(
      "div", { class: "row tools" },
      choice.list("Value", [{ options: columns }], chosen("column", columnOf), state.column.key).element,
      choice.list("coloured by", [{ options: sweep.axisOptions() }], chosen("axis"), state.axis).element,
      hasEpochs ? choice.list("over", [{ options: UNITS }], chosen("unit")).element : null,
    ), choice.stays(page), key);
    const figure = page.chart(element, {
      label: "Means over the matrices of each run, over its steps",
      caption: "Each line is a run: the mean over its averaged matrices, at the threshold that it " +
        "was analysed with.",
      height: () => runPanels.height(panels().length, TALL),
      draw: (width) => {
        page.legend(key, legend());
        return runPanels.drawn(panels(), state.unit, width, { tall: TALL });
      },
      table,
    });
  };

  sections.push({
    id: "runs-over-steps",
    title: "Over the steps",
    applies: (data) =>
      "sweep" in data.parts && part.columns.length > 0 &&
      part.runs.some((run) => sweep.series(run.steps).length > 1),
    render,
  });
}
