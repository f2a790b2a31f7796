"use strict";

/**
 * Every matrix and every metric.
 */
{
  const INEXACT = "not exact";

  /** A value, marked where it is not exact, or what is to be said in its place. */
  const cell = (page, column, reading) => {
    if (column.words) return reading.value ?? numbers.NOTHING;
    const text = column.counts ? page.count(reading.value) : page.number(reading.value);
    if (reading.exact && !reading.note) return text;
    const mark = reading.exact ? null : "~";
    return page.dom("span", { title: reading.note }, mark, text,
      page.dom("span", { class: "hidden" }, ` (${reading.note || INEXACT})`));
  };

  /** A metric's column. @param {number} i its place among the values of a row */
  const metricColumn = (page, column, i) => ({
    key: column.key,
    heading: column.heading,
    help: column.help,
    kind: column.words ? "text" : "number",
    value: (row) => (row.status === "ok" ? model.reading(page, row, i).value : null),
    cell: (row) => (row.status === "ok" ? cell(page, column, model.reading(page, row, i)) : numbers.NOTHING),
  });

  /** The name, with a box that has it drawn. @param {Map} boxes which are put into it */
  const nameCell = (page, row, boxes) => {
    if (row.curve === null) return page.breakable(row.name);
    const box = page.dom("input", {
      type: "checkbox", "aria-label": `Draw ${model.named(row)}`, onchange: () => model.toggle(row),
    });
    box.checked = model.chosen.has(row);
    boxes.set(row, box);
    return page.dom("span", { class: "pick" }, box, page.breakable(row.name));
  };

  sections.push({
    id: "matrices",
    title: model.titled("Matrices"),
    follows: true,
    applies: (all) => "model" in all.parts && model.rows.length > 0,
    render: (page, element) => {
      const several = model.rows.some((row) => row.of !== null);
      const failed = model.rows.some((row) => row.status !== "ok");
      const lead = page.dom("p", { class: "note" });
      const boxes = new Map();
      element.append(lead);
      const made = page.table(element, {
        caption: "Every matrix and what was read off its spectrum",
        grouping: "layer kind",
        groupBy: model.label,
        filter: (row) => [row.name, row.role ?? "", row.kind, row.dtype, row.status, model.label(row)].join(" "),
        rows: model.rows,
        columns: [
          { key: "name", heading: "matrix", kept: true, cell: (row) => nameCell(page, row, boxes), summary: () => "" },
          ...(several ? [{ key: "of", heading: "source", cell: (row) => page.breakable(row.of), summary: () => "" }] : []),
          { key: "shape", heading: "shape", value: model.size, help: "Outputs by inputs." },
          { key: "dtype", heading: "type" },
          ...(failed ? [{ key: "status", heading: "status", help: "Why a matrix has no spectrum.",
            cell: (row) => (row.reason ? `${row.status}: ${row.reason}` : row.status) }] : []),
          ...model.columns.map((column, i) => metricColumn(page, column, i)),
        ],
      });
      const say = () => {
        lead.textContent = `Ranks at ${page.controls.words()}. In a group's line: means. ~ marks what is not exact.`;
        made.refresh();
      };
      page.controls.onChange(say);
      model.onChoice(() => boxes.forEach((box, row) => {
        box.checked = model.chosen.has(row);
      }));
      say();
    },
  });
}
