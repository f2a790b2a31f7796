"use strict";

/**
 * The matrices that stand in both, the worst first.
 */
{
  const { part } = diff;
  const ARROW = " → ";
  const FIRST = ["rank", "effective_rank"]; // what a loss is a loss of
  const LAST = "type"; // of the columns that stand there before all are asked for

  const level = ({ eps }) => (eps === null ? "" : ` @${eps}`);

  /** What became of a matrix where it could not be measured. */
  const states = (row) => `${row.status_before}${ARROW}${row.status}`.replace(/_/g, " ");

  const isWhole = (row) => row.status === "ok" && row.status_before === "ok";

  const moved = ({ relative }) => {
    if (relative === null || relative === "inf") return relative ?? numbers.NOTHING;
    return relative === 0 ? "0 %" : diff.percent(diff.number(relative));
  };

  /** The name, which draws the matrix's spectra. */
  const button = (row) => {
    const renamed = row.name_before === row.name ? row.name : `${row.name_before}${ARROW}${row.name}`;
    const choose = () => {
      diff.choose(part.matrices.indexOf(row));
      document.getElementById("spectra-moved")?.scrollIntoView();
    };
    const made = dom(
      "button", { type: "button", title: "Draw its spectra", onclick: choose }, renamed,
    );
    Object.assign(made.style, {
      padding: "0", border: "0", background: "none", textAlign: "left", color: "var(--accent)",
    });
    return made;
  };

  const both = (column, i) => ({
    key: column.key,
    heading: column.title + level(column),
    kind: "number",
    value: (row) => diff.number(row.values[i]),
    cell: (row) => [row.values_before[i], row.values[i]]
      .map((value) => columnWords.value(column, value)).join(ARROW),
  });

  const delta = (column, i) => ({
    key: `delta ${column.key}`,
    heading: `${column.title}${level(column)} of B − A`,
    kind: "number",
    value: (row) => diff.number(row.delta[i]),
    cell: (row) => columnWords.value(column, row.delta[i]),
  });

  const STATUS = {
    key: "status", heading: "status", value: states,
    cell: (row) => (isWhole(row) ? "ok" : states(row)),
  };
  const CHANGE = {
    key: "loss", heading: "change", kind: "number",
    value: (row) => (row.loss === null ? null : -row.loss),
    cell: (row) => (row.loss === null ? numbers.NOTHING : diff.signed(-row.loss)),
    help: "The largest relative fall of rank and effective rank; of any other column where neither " +
      "was asked for.",
  };
  const RELATIVE = {
    key: "relative", heading: "moved by", kind: "number",
    value: (row) => diff.number(row.relative), cell: moved,
    help: "‖B − A‖ over ‖A‖, both Frobenius.",
  };
  const SHAPE = {
    key: "shape", heading: "shape", value: (row) => row.shapes[1].join(" × "),
    cell: (row) => [...new Set(row.shapes.map((shape) => shape.join(" × ")))].join(ARROW),
  };
  const TYPE = {
    key: "type", heading: "type", value: (row) => row.types[1],
    cell: (row) => [...new Set(row.types)].join(ARROW),
  };

  const columns = () => {
    const isFirst = ({ name }) => FIRST.includes(name);
    const all = part.columns.map((column, i) => ({ column, made: both(column, i) }));
    const deltas = part.delta.map(delta);
    const directions = deltas[diff.directions];
    return [
      { key: "name", heading: "matrix", cell: button },
      ...(part.matrices.every(isWhole) ? [] : [STATUS]),
      ...all.filter(({ column }) => isFirst(column)).map(({ made }) => made),
      CHANGE,
      ...(diff.hasDelta ? [RELATIVE] : []),
      ...(directions ? [{ ...directions, heading: "directions", help: part.explained }] : []),
      SHAPE,
      TYPE,
      ...all.filter(({ column }) => !isFirst(column)).map(({ made }) => made),
      ...deltas.filter((one) => one !== directions),
    ];
  };

  sections.push({
    id: "worst",
    title: "Worst first",
    applies: (data) => "diff" in data.parts && part.matrices.length > 0,
    render: (page, element) => {
      const worst = part.matrices.filter((row) => !row.equal);
      const equal = part.matrices.length - worst.length;
      if (equal && worst.length) {
        const box = choice.box(`also the ${equal} that are equal in every entry`, (checked) =>
          shown.update(checked ? part.matrices : worst));
        element.append(page.dom("div", { class: "row tools" }, box));
      }
      element.append(choice.stays(page));
      const all = columns();
      const keys = all.map(({ key }) => key);
      const shown = choice.table(page, element, {
        caption: "Matrices in both checkpoints, what lost most first",
        columns: all,
        few: keys.slice(0, keys.indexOf(LAST) + 1),
        rows: worst.length ? worst : part.matrices,
      });
    },
  });
}
