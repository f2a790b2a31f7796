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
    for (const row of model.drawn.filter((one) => one.depth !== null && one.role !== null)) {
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

  const valueOf = (page, row, what) => {
    if (what === SHARE) return model.rank(page, row).value / model.full(row);
    const { value } = model.reading(page, row, Number(what));
    return Number.isFinite(value) ? value : null;
  };

  const mean = (values) => {
    const known = values.filter((value) => value !== null);
    return known.length ? known.reduce((sum, one) => sum + one / known.length, 0) : null;
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
        model.columns.map((column, i) => page.dom("option", { value: i }, column.heading)),
      );
      const cells = () => [...found.values()].map((own) => depths.map((depth) =>
        mean((own.get(depth) ?? []).map((row) => valueOf(page, row, select.value)))));
      /** Of shares up to 1, so that the same colour is the whole of it at every eps. */
      const rangeOf = (z) => {
        const least = Math.min(...z.flat().filter((value) => value !== null));
        return select.value === SHARE ? { zmin: least < 1 ? least : 0, zmax: 1 } : {};
      };
      const shown = (value) => (select.value === SHARE ? page.share(value) : page.number(value));
      const names = () => [...found.values()].map((own) => depths.map((depth) => {
        const rows = own.get(depth) ?? [];
        const name = rows.length === 1 ? page.short(rows[0].name, 60) : `mean of ${rows.length} matrices`;
        return page.text(name);
      }));
      const draw = () => {
        const z = cells();
        const narrow = element.clientWidth < NARROW;
        const ticks = labels.map((label) =>
          page.text(narrow ? page.short(label.replace(" projections", ""), 16) : page.short(label, 40)));
        return {
          traces: [{
            type: "heatmap", z, x: depths, y: places,
            text: names(), customdata: z.map((row) => row.map(shown)),
            hovertemplate: "%{text}<br>layer %{x}: %{customdata}<extra></extra>",
            ...rangeOf(z), colorscale: page.palette.scale, xgap: 1, ygap: 1, hoverongaps: false,
            colorbar: { thickness: 12, outlinewidth: 0, tickformat: select.value === SHARE ? ".0%" : "~g", len: 1 },
          }],
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
          rows: cells().map((row, i) => [labels[i], ...row.map(shown)]),
        }),
      });
      const show = () => made.redraw();
      page.controls.onChange(show);
    },
  });
}
