"use strict";

/**
 * How a column and its values read, in the sections of runs, sweeps and differences.
 *
 * @typedef {{key: string, name: string, title: string, eps: string | null, counts: boolean}} Column
 */
const columnWords = (() => {
  const capital = (text) => text[0].toUpperCase() + text.slice(1);

  /** Whether it depends on a threshold. @param {Column} column */
  const isThresholded = ({ name, eps }) => eps !== null || name in metrics.byName;

  return Object.freeze({
    capital,
    isThresholded,

    /**
     * A value as the terminal shows it.
     * @param {Column} column
     * @param {number | string | null | undefined} value a string as the document has it: `~12`, `inf`
     */
    value: (column, value) => {
      if (typeof value === "string") {
        const rough = value.startsWith("~");
        return rough ? `~${numbers[column.counts ? "count" : "number"](Number(value.slice(1)))}` : value;
      }
      return column.counts ? numbers.count(value) : numbers.number(value);
    },

    /** `rank at ε = 0.01`. @param {Column} column @param {string} [level] in words */
    title: (column, level = `ε = ${column.eps ?? data.eps[0]}`) =>
      (isThresholded(column) ? `${column.title} at ${level}` : column.title),

    /** Columns to choose from: the threshold where there are several. @param {Column[]} columns */
    options: (columns) => columns.map((column) => ({
      value: column.key, label: column.title + (column.eps === null ? "" : ` at ε = ${column.eps}`),
    })),
  });
})();
