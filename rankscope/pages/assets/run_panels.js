"use strict";

/**
 * Panels one below the other over one axis of steps, so that what is zoomed in one is in all.
 *
 * @typedef {object} Panel
 * @property {string} title
 * @property {object[]} traces of Plotly, without axes
 * @property {object} [axis] what is special about its y axis
 * @property {(axis: string) => object[]} [shapes] behind the lines
 */
const runPanels = (() => {
  const TALL = 132; // pixels of one panel
  const GAP = 46; // between two, with the title of the lower one, which may take two lines
  const TOP = 42;
  const BOTTOM = 48;
  const LEFT = 56;
  const SIZE = 13; // of a title's letters
  const BESIDE = 32; // pixels right of a title, and for numbers beside an axis wider than `LEFT`

  const ruler = document.createElement("canvas").getContext("2d");

  /** A title in lines that a narrow window does not cut. @param {string} title @param {number} width */
  const wrapped = (title, width) => {
    ruler.font = `bold ${SIZE}px ${getComputedStyle(document.body).fontFamily}`;
    const fits = (line) => ruler.measureText(line).width <= width - LEFT - BESIDE;
    const [first, ...words] = title.split(" ");
    return words.reduce((lines, word) => {
      const longer = `${lines.at(-1)} ${word}`;
      return fits(longer) ? [...lines.slice(0, -1), longer] : [...lines, word];
    }, [first]);
  };

  /** @param {number} count @param {number} [tall] pixels of each */
  const height = (count, tall = TALL) => TOP + count * tall + (count - 1) * GAP + BOTTOM;

  /** What is the case where no value of a panel has a place on its axis. @param {Panel} panel */
  const bare = ({ traces, axis = {} }) => {
    const values = traces.flatMap(({ y }) => Array.from(y)).filter(Number.isFinite);
    if (!values.length) return "no value to draw";
    return axis.type === "log" && !values.some((value) => value > 0) ? "every value is 0" : "";
  };

  /**
   * @param {Panel[]} panels
   * @param {string} unit of the axis that they share
   * @param {number} width pixels of the figure
   * @param {{tall?: number, xaxis?: object}} [own] pixels of each; what is special about the axis
   */
  const drawn = (panels, unit, width, { tall = TALL, xaxis = {} } = {}) => {
    const inner = height(panels.length, tall) - TOP - BOTTOM;
    const layout = {
      margin: { t: TOP, b: BOTTOM, l: LEFT },
      uirevision: JSON.stringify(xaxis), // the zoom stays when something else is chosen
      xaxis: {
        title: { text: unit }, exponentformat: "none", separatethousands: true,
        anchor: panels.length > 1 ? `y${panels.length}` : "y",
        showspikes: true, spikemode: "across", spikesnap: "data", spikethickness: 1,
        spikedash: "dot", spikecolor: palette.muted, ...xaxis,
      },
      annotations: [],
      shapes: [],
    };
    const traces = [];
    panels.forEach((panel, i) => {
      const suffix = i ? String(i + 1) : "";
      const top = 1 - (i * (tall + GAP)) / inner;
      layout[`yaxis${suffix}`] = {
        domain: [Math.max(0, top - tall / inner), top], nticks: 5, tickfont: { size: 12 }, ...panel.axis,
      };
      layout.annotations.push({
        text: `<b>${wrapped(panel.title, width).map(numbers.text).join("<br>")}</b>`, xref: "paper", yref: "paper", x: 0, y: top,
        xanchor: "left", yanchor: "bottom", showarrow: false, yshift: 3, align: "left",
        font: { size: SIZE, color: palette.ink },
      });
      const said = bare(panel);
      if (said) {
        layout.annotations.push({
          text: said, xref: "paper", yref: "paper", x: 0.5,
          y: top - tall / 2 / inner, yanchor: "middle", showarrow: false, bgcolor: palette.surface,
          font: { size: SIZE, color: palette.muted },
        });
      }
      layout.shapes.push(...(panel.shapes?.(`y${suffix}`) ?? []));
      traces.push(...panel.traces.map((trace) => ({ ...trace, yaxis: `y${suffix}` })));
    });
    return { traces, layout };
  };

  /**
   * A logarithmic axis whose labels do not touch each other, whatever range the values have.
   * @param {ArrayLike<number | null>[]} lists @param {number} [most] labels
   */
  const logarithmic = (lists, most = 5) => {
    let [least, largest] = [Infinity, 0];
    for (const list of lists) {
      for (let i = 0; i < list.length; i += 1) {
        if (!(list[i] > 0) || list[i] === Infinity) continue;
        least = Math.min(least, list[i]);
        largest = Math.max(largest, list[i]);
      }
    }
    const decades = largest > 0 ? Math.log10(largest / least) : 0;
    if (decades >= 2) return { type: "log", dtick: Math.ceil(decades / most) };
    // Within a decade the digits 2 and 5 are labelled too, within a part of it whatever fits.
    return decades > 0.5 ? { type: "log", dtick: "D2" } : { type: "log", nticks: most };
  };

  /** Once a frame, however often it is asked for. @param {() => void} act */
  const coalesced = (act) => {
    let waiting = false;
    return () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        act();
      });
    };
  };

  return Object.freeze({ height, drawn, logarithmic, coalesced });
})();
