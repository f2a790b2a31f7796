"use strict";

/**
 * The matrices that the model sections share: their values at the eps in force, and which of them
 * are drawn large.
 */
const model = (() => {
  const part = () => data.parts.model;

  /** @param {object} column @param {object} row @param {number} i the column's place */
  const asMeasured = (row, i) => {
    const note = row.notes[i];
    // An infinite reading stands as null in JSON, with a note that says so.
    const value = note.startsWith("infinite") ? Infinity : row.values[i];
    return { value, note, exact: !note.includes("not exact") };
  };

  /**
   * What a column says of a matrix: as measured, or read again at another eps.
   * @param {object} page @param {object} row @param {number} i the column's place
   * @returns {Reading}
   */
  const reading = (page, row, i) => {
    const column = part().columns[i];
    if (!column.live || page.controls.asAsked || row.curve === null) return asMeasured(row, i);
    const spectrum = page.spectra.curves[row.curve];
    return page.metrics.byName[column.name](spectrum, page.controls.eps, page.controls.norm);
  };

  /** The rank of P1 at the eps in force, whether it is among the columns or not. */
  const rank = (page, row) => {
    if (row.curve === null) return null;
    const spectrum = page.spectra.curves[row.curve];
    return page.metrics.rank(spectrum, page.controls.eps, page.controls.norm);
  };

  const full = (row) => Math.min(...row.shape);
  const label = (row) => part().groups[row.group];
  const OF = 40; // letters of a source before a name

  /** What each source is called beside names; whole where short ones would read alike. */
  const called = (() => {
    const all = [...new Set((part()?.rows ?? []).map((row) => row.of))].filter((of) => of !== null);
    const few = all.map((of) => numbers.short(of, OF));
    return new Map(all.map((of, i) => [of, new Set(few).size === all.length ? few[i] : of]));
  })();

  /** A matrix among those of several sources, whose names may be equal. @param {number} width */
  const named = (row, width = Infinity) =>
    (row.of === null ? "" : `${called.get(row.of)}: `) + numbers.short(row.name, width);

  const size = (row) => row.shape.join(" × ");

  /**
   * A section's title: of a run, these sections show its last snapshot; beside several runs, what
   * is none of them.
   * @param {string} word
   */
  const titled = (word) => {
    if (part()?.beside) return `${word}: other checkpoints`;
    const step = part()?.step ?? null;
    return step === null ? word : `${word} at step ${step}`;
  };

  /** Which matrices are drawn large, and who wants to know. */
  const chosen = new Set();
  const listeners = [];
  const choose = (rows) => {
    chosen.clear();
    rows.forEach((row) => chosen.add(row));
    listeners.forEach((listener) => listener());
  };

  return Object.freeze({
    get rows() {
      return part().rows;
    },
    get drawn() {
      return part().rows.filter((row) => row.curve !== null);
    },
    get columns() {
      return part().columns;
    },
    get groups() {
      return part().groups;
    },
    titled,
    reading,
    rank,
    full,
    label,
    named,
    size,
    chosen,
    choose,
    toggle: (row) => choose(chosen.has(row) ? [...chosen].filter((one) => one !== row) : [...chosen, row]),
    onChoice: (listener) => listeners.push(listener),
  });
})();
