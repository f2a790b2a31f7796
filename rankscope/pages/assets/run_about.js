"use strict";

sections.push({
  id: "run",
  title: "The run",
  applies: (data) => "run" in data.parts,
  render: (page, element) => {
    const { verdicts, settings, steps, matrices } = page.data.parts.run;
    const span = `${page.counted(steps.length, "snapshot", "snapshots")} from step ${steps[0]} to ` +
      `${steps.at(-1)}, ${page.counted(matrices.length, "matrix", "matrices")}.`;
    account.tell(page, element, span, verdicts, settings);
  },
});
