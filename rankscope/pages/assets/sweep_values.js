"use strict";

/**
 * The runs of a sweep, and the settings in which they differ.
 */
const sweep = ((part) => {
  const BY_RUN = "run"; // in place of a setting: each run by itself

  /** The values of a series that the document keeps once. */
  const series = (place) => part.series[place];

  const words = (value) => {
    if (value === null || value === undefined) return numbers.NOTHING;
    if (typeof value === "boolean") return value ? "yes" : "no";
    return typeof value === "number" ? numbers.general(value, 6) : value;
  };

  const isNumber = (value) => typeof value === "number";

  /** The settings that can be an axis: numbers, several of them. */
  const axes = part.varied.filter(([key]) => {
    const values = part.runs.map((run) => run.settings[key]).filter(isNumber);
    return new Set(values).size > 1;
  });

  /** The other settings that vary, each with its value: what makes two points be on one line. */
  const others = (run, axis) =>
    part.varied.filter(([key]) => key !== axis).map(([key, heading]) => [heading, run.settings[key]]);

  /** In the order of the settings, the first one first. */
  const compared = (a, b) => {
    const at = a.settings.findIndex(([, value], i) => value !== b.settings[i][1]);
    const [one, other] = at < 0 ? [0, 0] : [a.settings[at][1], b.settings[at][1]];
    return isNumber(one) && isNumber(other) ? one - other : String(one).localeCompare(String(other));
  };

  /** Runs that differ in one setting and the seed only, under what they share. */
  const groups = (axis) => {
    const found = new Map();
    part.runs.forEach((run, i) => {
      if (axis !== BY_RUN && !isNumber(run.settings[axis])) return;
      const settings = axis === BY_RUN ? [] : others(run, axis);
      const label = settings.map(([heading, value]) => `${heading} ${words(value)}`).join(", ");
      found.set(label, found.get(label) ?? { label, settings, runs: [] });
      found.get(label).runs.push(i);
    });
    return [...found.values()].sort(compared);
  };

  /** Colours of groups: in an order where they differ in one number, else as can be told apart. */
  const coloursOf = (all) => {
    const ordered = all.every(({ settings }) => settings.length === 1 && isNumber(settings[0][1]));
    const shades = all.length > 1 && (ordered || all.length >= palette.size);
    return all.map((_, i) => (shades ? palette.shade(i / (all.length - 1)) : palette.series(i)));
  };

  /** What can be an axis, for `choice.list`. */
  const axisOptions = () => [
    ...axes.map(([value, label]) => ({ value, label })), { value: BY_RUN, label: "run" },
  ];

  const heading = (axis) => part.varied.find(([key]) => key === axis)?.[1] ?? "run";

  /** Which spectra there are: by run and matrix, the place among the page's curves. */
  const places = new Map();
  part.curves.forEach((pair, place) => pair && places.set(`${pair[0]} ${pair[1]}`, place));

  const spectrum = (page, run, matrix) => page.spectra.curves[places.get(`${run} ${matrix}`)];

  const mean = (values) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    return known.length ? known.reduce((sum, value) => sum + value / known.length, 0) : null;
  };

  /** A metric's mean over a run's averaged matrices, read off the spectra in the page. */
  const live = (page, run, name) => {
    const { eps, norm } = page.controls;
    return mean(part.matrices.map((matrix, i) => {
      const found = matrix.averaged[run] ? spectrum(page, run, i) : undefined;
      return found === undefined ? null : page.metrics.byName[name](found, eps, norm).value;
    }));
  };

  /** Where a run ended, in one column: as analysed, or at the threshold that the reader chose. */
  const final = (page, run, column) => {
    const { eps, norm } = page.controls;
    const asked = Number(column.eps ?? page.data.eps[0]);
    const same = eps === asked && norm === page.data.norm;
    if (same || !follows(column)) return part.runs[run].final[part.columns.indexOf(column)];
    return live(page, run, column.name);
  };

  /** Whether a column is read again at another eps: of several thresholds the first one's. */
  const follows = (column) =>
    column.name in metrics.byName &&
    part.columns.find(({ name }) => name === column.name) === column;

  return Object.freeze({
    part, BY_RUN, axes, axisOptions, groups, coloursOf, heading,
    words, series, spectrum, final, follows, mean, isNumber,
  });
})(data.parts.sweep);
