"use strict";

/**
 * The values of a run's matrices over its steps, and the lines that are drawn of them.
 *
 * @typedef {object} Series
 * @property {(number | null)[]} values Infinity where it is infinite
 * @property {boolean[]} rough where a value is not exact
 *
 * @typedef {object} Line
 * @property {string} label
 * @property {number[]} members the matrices that it is the mean of
 * @property {boolean} isMean whether it is the table's mean over the averaged matrices
 * @property {() => string} colour
 * @property {string} dash
 * @property {number} width
 * @property {(key: string) => Series} series of a column
 * @property {number} smaller the number of singular values, a mean over its members
 */
const runValues = ((part) => {
  const decoded = part.series.map(() => null);

  /** @param {number} place among the series that the document keeps @returns {Series} */
  const series = (place) => {
    decoded[place] ??= {
      values: part.series[place].map((value) => {
        if (typeof value !== "string") return value;
        return value === "inf" ? Infinity : Number(value.slice(1));
      }),
      rough: part.series[place].map((value) => typeof value === "string" && value !== "inf"),
    };
    return decoded[place];
  };

  const index = new Map(part.columns.map((column, i) => [column.key, i]));

  /** The mean of those that are defined; none where one of them is infinite. */
  const mean = (numbers) => {
    const known = numbers.filter((value) => value !== null);
    if (!known.length || known.includes(Infinity)) return null;
    return known.reduce((sum, value) => sum + value / known.length, 0);
  };

  /** @param {number[]} members @param {string} key @returns {Series} */
  const over = (members, key) => {
    const all = members.map((i) => series(part.matrices[i].values[index.get(key)]));
    return {
      values: part.steps.map((_, at) => mean(all.map((one) => one.values[at]))),
      rough: part.steps.map((_, at) => all.some((one) => one.rough[at])),
    };
  };

  const smaller = (i) => Math.min(...part.matrices[i].shape);

  /** @param {Partial<Line>} line */
  const line = (line) => {
    const known = new Map();
    const found = (key) => {
      if (!known.has(key)) known.set(key, line.find(key));
      return known.get(key);
    };
    return { dash: "solid", width: 2, isMean: false, ...line, series: found,
      smaller: mean(line.members.map(smaller)) };
  };

  const averaged = part.matrices.flatMap((one, i) => (one.averaged === false ? [] : [i]));

  /** Over how many matrices the means are, where that is the same at all steps. */
  const words = () => {
    const counts = [...new Set(part.averaged)];
    const all = part.matrices.length;
    const count = counts.length === 1 ? counts[0] : "some";
    return count === all ? `mean over ${all} matrices` : `mean over ${count} of ${all} matrices`;
  };

  const meanLine = line({
    label: words(), members: averaged, isMean: true, width: 3.5,
    colour: () => palette.ink,
    find: (key) => series(part.mean[index.get(key)]),
  });

  const named = (i) => {
    const { name, averaged: counts } = part.matrices[i];
    return counts === false ? `${name} (not in the mean)` : name;
  };

  /** A line for each of some matrices; many in shades, from the first one to the last. */
  const lineEach = (members) => {
    const few = members.length < palette.size; // the last colour is that of the mean
    return members.map((i, at) => line({
      label: named(i), members: [i],
      dash: part.matrices[i].averaged === false ? "dash" : "solid",
      width: few ? 2 : 1.5,
      colour: () => (few ? palette.series(at) : palette.shade(at / (members.length - 1))),
      find: (key) => series(part.matrices[i].values[index.get(key)]),
    }));
  };

  const kinds = [...new Set(part.matrices.map((one) => one.kind))];
  const membersOf = (kind) =>
    part.matrices.flatMap((one, i) => (one.kind === kind ? [i] : []));

  const DASHES = ["solid", "dash", "dot"];

  /** How many kinds can be told apart: each colour in each dash. */
  const mostKinds = () => (palette.size - 1) * DASHES.length;

  /** A line for each kind of layer, the largest ones where they are too many. */
  const lineEachKind = () => {
    const size = new Map(kinds.map((kind) => [kind, membersOf(kind).length]));
    const largest = [...kinds].sort((a, b) => size.get(b) - size.get(a)).slice(0, mostKinds());
    return kinds.filter((kind) => largest.includes(kind)).map((kind, at) => {
      const members = membersOf(kind);
      return line({
        label: members.length === 1 ? named(members[0]) : `${kind}: mean of ${members.length}`,
        members,
        dash: DASHES[Math.floor(at / (palette.size - 1))],
        colour: () => palette.series(at % (palette.size - 1)),
        find: (key) => over(members, key),
      });
    });
  };

  /** What can be chosen, for `choice.list`; and the lines of what was. */
  const options = () => {
    const all = part.matrices.length;
    const several = kinds.length > 1 && kinds.length < all;
    const whole = [];
    if (all < palette.size) whole.push({ value: "all", label: `Every matrix (${all})` });
    if (several) whole.push({ value: "kinds", label: `Kinds of layers (${kinds.length})` });
    if (all >= palette.size) whole.push({ value: "all", label: `Every matrix (${all}), in shades` });
    whole.push({ value: "mean", label: "The mean alone" });
    const groups = [{ options: whole }];
    if (several) {
      const large = kinds.map((kind, i) => [kind, i]).filter(([kind]) => membersOf(kind).length > 1);
      groups.push({
        label: "Every layer of a kind",
        options: large.map(([kind, i]) => (
          { value: `kind ${i}`, label: `${kind} (${membersOf(kind).length})` })),
      });
    }
    const one = part.matrices.map(({ name }, i) => ({ value: `one ${i}`, label: name }));
    return [...groups, { label: "One matrix", options: one }];
  };

  /** The mean lies behind the others. @param {string} value of `options` @returns {Line[]} */
  const lines = (value) => {
    const [what, which] = value.split(" ");
    if (what === "one") return lineEach([Number(which)]);
    if (what === "mean") return [meanLine];
    if (what === "kind") return [meanLine, ...lineEach(membersOf(kinds[Number(which)]))];
    if (what === "kinds") return [meanLine, ...lineEachKind()];
    return [meanLine, ...lineEach(part.matrices.map((_, i) => i))];
  };

  return Object.freeze({
    part, lines, options, mean, averaged,
    /** @param {string} key */
    column: (key) => part.columns[index.get(key)],
    /** The column of a metric at one of the thresholds asked for. */
    keyOf: (name, eps) =>
      part.columns.find((one) => one.name === name && (one.eps ?? eps) === eps)?.key,
    leftOut: () => Math.max(0, kinds.length - mostKinds()),
  });
})(data.parts.run);
