"use strict";

/**
 * The matrices of two checkpoints, the worst first, and which of them is looked at.
 */
const diff = ((part) => {
  /** @param {number | string | null} value as in the document: `~12.5`, `inf` */
  const number = (value) => {
    if (typeof value !== "string") return value;
    return value === "inf" ? Infinity : Number(value.slice(1));
  };

  /** Places of the spectra by matrix, of each side. */
  const places = Object.fromEntries(Object.entries(part.curves).map(([side, rows]) =>
    [side, new Map(rows.flatMap((row, place) => (row === null ? [] : [[row, place]])))]));

  /** @param {"before" | "after" | "moved"} side @param {number} matrix its place among the rows */
  const spectrum = (page, side, matrix) => page.spectra[side][places[side].get(matrix)];

  const full = ({ shapes }) => Math.max(...shapes.map((shape) => Math.min(...shape)));

  const columnIndex = (name) => part.columns.findIndex((column) => column.name === name);

  /** A share in two digits, and no more than two decimals, as in the terminal. */
  const percent = (share) => {
    const size = Math.abs(100 * share);
    return `${(100 * share).toFixed(size >= 10 ? 0 : size >= 1 ? 1 : 2)} %`;
  };
  const signed = (share) => `${share > 0 ? "+" : ""}${share ? percent(share) : "0 %"}`;

  const directions = part.delta.findIndex(({ name }) => name === "numerical_rank");

  const listeners = [];

  /** What is drawn first: the worst that can be compared. */
  const compared = part.matrices.findIndex((one, i) =>
    !one.equal && places.before.has(i) && places.after.has(i));
  const state = { matrix: Math.max(0, compared) };

  return Object.freeze({
    part, number, spectrum, full, columnIndex, percent, signed, directions,
    hasDelta: part.delta.length > 0,
    get chosen() {
      return state.matrix;
    },
    /** @param {number} matrix whose spectra are drawn */
    choose: (matrix) => {
      state.matrix = matrix;
      listeners.forEach((listener) => listener());
    },
    onChoice: (listener) => listeners.push(listener),
  });
})(data.parts.diff);
