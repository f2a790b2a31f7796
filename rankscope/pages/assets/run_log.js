"use strict";

/**
 * What a run's log says over the steps: accuracy, loss, and the learning rate where it changes.
 */
const runLog = ((log) => {
  const PANELS = [
    { title: "Accuracy", of: "accuracy", axis: { tickformat: ".0%" } },
    { title: "Loss", of: "loss", axis: {} },
  ];
  // The colours are those of layers elsewhere: here the dash tells lines apart.
  const SIDES = [
    { side: "test", dash: "solid" },
    { side: "train", dash: "dash" },
  ];

  const trace = (key, label, dash, shape) => {
    const look = { label, colour: () => palette.ink, width: 2, dash };
    const made = runTrace.trace(look, log[key], log[key].map(numbers.number));
    // A log speaks of some snapshots only.
    return { ...made, line: { ...made.line, shape }, connectgaps: true };
  };

  const both = ({ title, of, axis }) => {
    const there = SIDES.filter(({ side }) => `${side}_${of}` in log);
    if (!there.length) return [];
    const words = there.map(({ side, dash }) => `${side} ${dash === "dash" ? "dashed" : dash}`);
    return [{
      title: `${title}: ${words.join(", ")}`,
      traces: there.map(({ side, dash }) => trace(`${side}_${of}`, side, dash, "linear")),
      axis,
    }];
  };

  const rate = () => {
    const values = (log.lr ?? []).filter((lr) => lr !== null);
    if (new Set(values).size < 2) return [];
    return [{
      title: "Learning rate of the steps before",
      traces: [trace("lr", "learning rate", "solid", "vh")],
      axis: runPanels.logarithmic([values]),
    }];
  };

  return Object.freeze({
    /** @returns {Panel[]} */
    panels: () => [...PANELS.flatMap(both), ...rate()],
    columns: Object.keys(log),
    /** @param {string} key @param {number} at */
    shown: (key, at) => numbers.number(log[key][at]),
  });
})(data.parts.run.log);
