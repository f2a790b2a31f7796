"use strict";

{
  /** Which snapshot it is. @param {{source: string | null, step: number | null, snapshots: number}} run */
  const leadOf = ({ source, step, snapshots }) => {
    const which = snapshots === 1 ? "only snapshot" : `last of ${snapshots} snapshots`;
    return `${source ?? "This run"}: ${step === null ? "" : `step ${step}, `}the ${which}.`;
  };

  sections.push({
    id: "run",
    title: "The run",
    applies: (data) => "trained" in data.parts,
    render: (page, element) => {
      const { settings, logged, verdicts } = page.data.parts.trained;
      const lead = leadOf(page.data.parts.trained);
      account.tell(page, element, lead, verdicts, [...settings, ...logged]);
    },
  });
}
