"use strict";

/**
 * Values over the steps of a run as lines of Plotly, with what is said of each point.
 */
const runTrace = ((part) => {
  const LETTERS = 80; // of a name beside a point
  const FEW = 30; // snapshots, up to which each has a mark

  const known = new Map(part.columns.map((column) => [column, new WeakMap()]));

  /** A value as a person reads it. @param {Column} column @param {Series} series */
  const shown = (column, series, at) =>
    (series.rough[at] ? "~" : "") + columnWords.value(column, series.values[at]);

  /** What is said at each step; made once a series. @param {Column} column @param {Series} series */
  const wordsOf = (column, series) => {
    const own = known.get(column);
    if (!own.has(series)) own.set(series, part.steps.map((_, at) => shown(column, series, at)));
    return own.get(series);
  };

  /**
   * @param {Line} line how it looks
   * @param {(number | null)[]} values
   * @param {string[]} words of each value
   * @param {object} [own] what is special about it
   */
  const trace = (line, values, words, own = {}) => ({
    type: "scatter",
    mode: part.steps.length > FEW ? "lines" : "lines+markers",
    x: part.steps,
    y: values,
    customdata: words,
    meta: numbers.text(numbers.short(line.label, LETTERS)),
    hovertemplate: "%{meta}<br>step %{x}: %{customdata}<extra></extra>",
    line: { color: line.colour(), width: line.width, dash: line.dash },
    marker: { size: line.isMean ? 6 : 4, color: line.colour() },
    ...own,
  });

  /** The lines of one column. @param {Line[]} lines @param {string} key */
  const column = (lines, key) => lines.map((line) => {
    const series = line.series(key);
    return trace(line, series.values, wordsOf(runValues.column(key), series));
  });

  /** @param {string} key */
  const titled = (key) => columnWords.capital(columnWords.title(runValues.column(key)));

  return Object.freeze({ shown, wordsOf, trace, column, titled });
})(data.parts.run);
