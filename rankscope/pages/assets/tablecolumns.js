"use strict";

/**
 * The columns of a table: what they say of a row, and in which order it stands for that.
 *
 * @typedef {object} Column
 * @property {string} key
 * @property {string} heading
 * @property {string} [help] a sentence: what it says
 * @property {"text" | "number"} [kind] numbers are right-aligned
 * @property {(row: object) => unknown} [value] what it is sorted by; default `row[key]`
 * @property {(row: object) => Node | string} [cell] default: by kind
 * @property {(rows: object[]) => Node | string} [summary] of a group; default: by kind
 * @property {boolean} [kept] whether a cell once made stays as it is when values have changed
 */
const tablecolumns = (() => {
  const collator = new Intl.Collator("en", { numeric: true });

  const isMissing = (value) => value === null || value === undefined || value === "";

  /** Ascending; what is missing comes last in either order. */
  const compared = (a, b, sign) => {
    if (isMissing(a) || isMissing(b)) return Number(isMissing(a)) - Number(isMissing(b));
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * collator.compare(String(a), String(b));
  };

  /** As `analyze` prints means: over what is defined, and a dash where a value is infinite. */
  const mean = (values) => {
    const known = values.filter((value) => typeof value === "number");
    if (known.includes(Infinity)) return null;
    return known.length ? known.reduce((sum, one) => sum + one / known.length, 0) : null;
  };

  /** A column with its defaults. @param {Column} column */
  const whole = (column) => {
    const kind = column.kind ?? "text";
    const value = column.value ?? ((row) => row[column.key]);
    const shown = (one) => (kind === "number" ? numbers.count(one) : one ?? numbers.NOTHING);
    const summed = (rows) => {
      if (kind === "number") return shown(mean(rows.map(value)));
      const all = new Set(rows.map(value));
      return all.size === 1 ? shown([...all][0]) : "various";
    };
    return { help: "", cell: (row) => shown(value(row)), summary: summed, ...column, kind, value };
  };

  /** @param {object[]} rows @param {Column | null} column @param {1 | -1} sign */
  const sorted = (rows, column, sign) => {
    if (column === null) return rows;
    const values = new Map(rows.map((row) => [row, column.value(row)]));
    return [...rows].sort((a, b) => compared(values.get(a), values.get(b), sign));
  };

  /** Rows by label, in the order of their first one. */
  const grouped = (rows, groupBy) => {
    const found = new Map();
    for (const row of rows) {
      const label = groupBy(row);
      if (!found.has(label)) found.set(label, []);
      found.get(label).push(row);
    }
    return found;
  };

  /** Rows in whose text every word stands. */
  const matching = (rows, words, text) =>
    words.length === 0
      ? rows
      : rows.filter((row) => words.every((word) => text(row).toLowerCase().includes(word)));

  return Object.freeze({ whole, sorted, grouped, matching });
})();
