"use strict";

/**
 * Layer by kind: how a metric changes with depth.
 */
{
  const ROW = 26; // pixels
  const FRAME = 110; // pixels of axes and the colour bar
  const SHARE = "share";

  /** Kinds of layers with their matrices by depth; what stands outside of layers has no place. */
  const kinds = () => {
    const found = new Map();
    for (const row of model.rows.filter((one) => one.depth !== null && one.role !== null)) {
      if (!found.has(row.group)) found.set(row.group, new Map());
      const depths = found.get(row.group);
      depths.set(row.depth, [...(depths.get(row.depth) ?? []), row]);
    }
    return found;
  };

  const depthsOf = (found) => {
    const all = [...found.values()].flatMap((depths) => [...depths.keys()]);
    return [...new Set(all)].sort((a, b) => a - b);
  };

  const NARROW = 600; // pixels, below which labels are short

  /** A kind without its layers, which the axis tells, where that leaves it unlike all others. */
  const labelsOf = (groups) => {
    const bare = groups.map((group) => model.groups[group].replace(/, [^,]*layers? [^:]*$/, ""));
    return bare.map((label, i) =>
      bare.indexOf(label) === bare.lastIndexOf(label) ? label : model.groups[groups[i]]);
  };

  /** Null where it is undefined or was not measured. */
  const valueOf = (page, row, what) => {
    if (row.status !== "ok") return null;
    if (what !== SHARE) return model.reading(page, row, Number(what)).value;
    const rank = model.rank(page, row);
    return rank && rank.value / model.full(row);
  };

  /** Over what is defined, as rankscope/rows.py: what is infinite makes the mean so. */
  const mean = (values) => {
    const known = values.filter((value) => value !== null);
    return known.length ? known.reduce((sum, one) => sum + one / known.length, 0) : null;
  };

  /** What a place holds; undefined where there is no matrix. */
  const cellOf = (page, rows, what) => {
    if (!rows) return undefined;
    const values = rows.map((row) => valueOf(page, row, what));
    const lacking = rows.some((row) => row.status === "ok") ? "undefined" : "not measured";
    return { rows, value: mean(values), known: values.filter((one) => one !== null).length, lacking };
  };

  const nameOf = (page, { rows, known }) => {
    if (rows.length === 1) return model.named(rows[0], 60);
    return `mean of ${known && known < rows.length ? `${known} of ` : ""}${rows.length} matrices`;
  };

  /** What has no colour in the scale: in words, on a ground that is not that of no matrix. */
  const wordsOf = (page, cells, depths, places) => {
    const odd = (one) => one && !Number.isFinite(one.value);
    const marked = (what, none) => cells.map((row) => row.map((one) => (odd(one) ? what(one) : none)));
    const said = (one) => (one.value === null ? one.lacking : page.number(one.value));
    return {
      type: "heatmap", x: depths, y: places, z: marked(() => 1, null), zmin: 0, zmax: 1, xgap: 1, ygap: 1,
      showscale: false, hoverongaps: false,
      colorscale: [[0, page.palette.grid], [1, page.palette.grid]],
      text: marked((one) => page.number(one.value), ""), texttemplate: "%{text}",
      textfont: { color: page.palette.ink },
      customdata: marked((one) => [page.text(nameOf(page, one)), said(one)], null),
      hovertemplate: "%{customdata[0]}<br>layer %{x}: %{customdata[1]}<extra></extra>",
    };
  };

  sections.push({
    id: "layers",
    title: model.titled("Layers"),
    follows: true,
    applies: (all) => "model" in all.parts && depthsOf(kinds()).length > 1,
    render: (page, element) => {
      const found = kinds();
      const depths = depthsOf(found);
      const labels = labelsOf([...found.keys()]);
      const places = labels.map((_, i) => i); // two labels may read alike when they are shortened
      const select = page.dom(
        "select", { id: "heat-metric", onchange: () => show() },
        page.dom("option", { value: SHARE }, "rank, share of full"),
        model.columns.map((column, i) =>
          (column.words ? null : page.dom("option", { value: i }, column.heading))),
      );
      const cells = () => [...found.values()].map((own) => depths.map((depth) =>
        cellOf(page, own.get(depth), select.value)));
      /** Of shares up to 1, so that the same colour is the whole of it at every eps. */
      const rangeOf = (z) => {
        const least = Math.min(...z.flat().filter((value) => value !== null));
        return select.value === SHARE ? { zmin: least < 1 ? least : 0, zmax: 1 } : {};
      };
      const shown = (value) => (select.value === SHARE ? page.share(value) : page.number(value));
      const told = ({ value, lacking }) => (value === null ? lacking : shown(value));
      const draw = () => {
        const held = cells();
        const z = held.map((row) => row.map((one) => (one && Number.isFinite(one.value) ? one.value : null)));
        const narrow = element.clientWidth < NARROW;
        const ticks = labels.map((label) =>
          page.text(narrow ? page.short(label.replace(" projections", ""), 16) : page.short(label, 40)));
        return {
          traces: [{
            type: "heatmap", z, x: depths, y: places,
            text: held.map((row) => row.map((one) => (one ? page.text(nameOf(page, one)) : ""))),
            customdata: z.map((row) => row.map(shown)),
            hovertemplate: "%{text}<br>layer %{x}: %{customdata}<extra></extra>",
            ...rangeOf(z), colorscale: page.palette.scale, xgap: 1, ygap: 1, hoverongaps: false,
            colorbar: { thickness: 12, outlinewidth: 0, tickformat: select.value === SHARE ? ".0%" : "~g", len: 1 },
          }, wordsOf(page, held, depths, places)],
          layout: {
            xaxis: { title: { text: "layer" }, showgrid: false, showline: false, dtick: depths.length > 24 ? 4 : 1 },
            yaxis: {
              autorange: "reversed", showgrid: false, showline: false, ticks: "",
              tickvals: places, ticktext: ticks,
            },
          },
        };
      };
      element.append(page.dom("div", { class: "row tools" },
        page.dom("label", { for: "heat-metric" }, "Metric"), select));
      const made = page.chart(element, {
        caption: "Each kind of layer by depth.",
        label: "Heat map of a metric by layer and kind",
        height: () => FRAME + ROW * found.size,
        draw,
        table: () => ({
          columns: ["kind", ...depths.map(String)],
          rows: cells().map((row, i) => [labels[i], ...row.map((one) => (one ? told(one) : ""))]),
        }),
      });
      const show = () => made.redraw();
      page.controls.onChange(show);
    },
  });
}
