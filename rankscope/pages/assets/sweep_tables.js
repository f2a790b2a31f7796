"use strict";

/**
 * The runs as a table, and the tests of Prediction 4.1 over them.
 */
{
  const { part } = sweep;
  const SHOWN = ["rank", "effective_rank", "norm_ratio"]; // of the values, before all are asked for

  const setting = ([key, heading]) => ({
    key,
    heading,
    kind: part.runs.every(({ settings }) => sweep.isNumber(settings[key])) ? "number" : "text",
    value: (run) => run.settings[key],
    cell: (run) => sweep.words(run.settings[key]),
  });

  const logged = (key) => ({
    key,
    heading: key.replace("_", " "),
    kind: "number",
    value: (run) => run.log[key] ?? null,
    cell: (run) => numbers.count(run.log[key] ?? null),
  });

  const final = (column, i) => ({
    key: column.key,
    heading: column.title + (column.eps === null ? "" : ` @${column.eps}`),
    kind: "number",
    value: (run) => run.final[i],
    cell: (run) => columnWords.value(column, run.final[i]),
  });

  const runColumns = () => [
    { key: "name", heading: "run" },
    ...part.varied.map(setting),
    setting(["seed", "seed"]),
    { key: "step", heading: "last step", kind: "number", cell: (run) => sweep.words(run.step) },
    ...[...new Set(part.runs.flatMap((run) => Object.keys(run.log)))].map(logged),
    ...part.columns.map(final),
  ];

  const p = (value) => (value === null ? numbers.NOTHING : numbers.general(value, 3));
  const ends = (values, words) => `${words(values[0])} → ${words(values.at(-1))}`;

  const fixed = { key: "fixed", heading: "at", cell: (row) => row.fixed || numbers.NOTHING };

  const trendColumns = () => [
    { key: "varied", heading: "by", cell: (row) => `${row.varied} ${ends(row.levels, sweep.words)}` },
    { key: "value", heading: "value" },
    ...(part.trends.some((row) => row.fixed) ? [fixed] : []),
    {
      key: "means", heading: "mean", value: (row) => row.means.at(-1),
      cell: (row) => ends(row.means, numbers.count),
      help: "Over the runs at the first level, and at the last.",
    },
    { key: "runs", heading: "runs", kind: "number", cell: (row) => String(row.runs) },
    {
      key: "seeds", heading: "seeds", kind: "number", cell: (row) => String(row.seeds),
      help: "How many seeds have a run at every level.",
    },
    {
      key: "tau", heading: "Kendall's τ", kind: "number",
      cell: (row) => (row.tau === null ? numbers.NOTHING : row.tau.toFixed(2)),
    },
    {
      key: "tau_p", heading: "p", kind: "number", cell: (row) => p(row.tau_p),
      help: "The chance of such a τ, or one further in the predicted direction, were the runs " +
        "exchangeable.",
    },
    {
      key: "page_p", heading: "Page's p", kind: "number", cell: (row) => p(row.page_p),
      help: "Page's test, which compares runs within a seed only; it needs two seeds and three levels.",
    },
    {
      key: "verdict", heading: "verdict",
      help: "What the runs say of Prediction 4.1, by Kendall's τ at a level of 0.05.",
    },
  ];

  sections.push({
    id: "trends",
    title: "Trends",
    applies: (data) => "sweep" in data.parts && part.trends.length > 0,
    render: (page, element) => {
      element.append(page.dom("p", { class: "note" }, "Prediction 4.1: the rank falls with a smaller " +
        "batch, a larger learning rate and a larger weight decay."), choice.stays(page));
      page.table(element, {
        caption: "Tests of Prediction 4.1", columns: trendColumns(), rows: part.trends, filter: null,
      });
    },
  });

  sections.push({
    id: "all-runs",
    title: "All runs",
    applies: (data) => "sweep" in data.parts,
    render: (page, element) => {
      element.append(choice.stays(page));
      const columns = runColumns();
      const left = part.columns.filter(({ name }) => !SHOWN.includes(name)).map(({ key }) => key);
      choice.table(page, element, {
        caption: "The runs at their last snapshots, as analysed",
        columns,
        few: columns.map(({ key }) => key).filter((key) => !left.includes(key)),
        rows: part.runs,
      });
    },
  });
}
