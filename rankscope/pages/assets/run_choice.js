"use strict";

/**
 * Lists to choose from, for the sections of runs, sweeps and differences.
 */
const choice = (() => {
  let made = 0; // each has an id of its own, for its label

  const option = ({ value, label }) => dom("option", { value }, label);

  /**
   * @param {string} label
   * @param {{label?: string, options: {value: string, label: string}[]}[]} groups without a label:
   *   options that stand by themselves
   * @param {(value: string) => void} onChange
   * @param {string} [value] what is chosen at first; default: the first one
   */
  const list = (label, groups, onChange, value) => {
    made += 1;
    const id = `choice-${made}`;
    const select = dom(
      "select", { id, onchange: () => onChange(select.value) },
      groups.map((group) => (group.label === undefined
        ? group.options.map(option)
        : dom("optgroup", { label: group.label }, group.options.map(option)))),
    );
    if (value !== undefined) select.value = value;
    const element = dom("span", {}, dom("label", { for: id }, label), " ", select);
    for (const one of [element, select]) one.style.maxWidth = "100%"; // names may be long
    return { element, select };
  };

  /**
   * Every matrix, under its kind where there are several kinds.
   * @param {{name: string, kind: string}[]} matrices
   * @param {(i: number) => boolean} [kept] which of them can be chosen
   */
  const byKind = (matrices, kept = () => true) => {
    const groups = new Map();
    matrices.forEach((matrix, i) => {
      if (!kept(i)) return;
      if (!groups.has(matrix.kind)) groups.set(matrix.kind, []);
      groups.get(matrix.kind).push({ value: String(i), label: matrix.name });
    });
    if (groups.size === 1) return [{ options: [...groups.values()][0] }];
    return [...groups].map(([label, options]) => ({ label, options }));
  };

  /** A box to tick. @param {string} label @param {(checked: boolean) => void} onChange */
  const box = (label, onChange, checked = false) => {
    const input = dom("input", { type: "checkbox", checked, onchange: () => onChange(input.checked) });
    return dom("label", {}, input, ` ${label}`);
  };

  /**
   * A table of a few columns, or of all of them, which stand on a wide sheet.
   * @param {Element} element where it is appended
   * @param {object} options as of `page.table`; `few` are the keys of its first columns
   */
  const table = (page, element, { few, columns, ...options }) => {
    const place = dom("div");
    const first = columns.filter(({ key }) => few.includes(key));
    let rows = options.rows;
    let made = null;
    const make = (all) => {
      place.replaceChildren();
      place.className = all ? "wide" : "";
      made = page.table(place, { ...options, rows, columns: all ? columns : first });
    };
    make(false);
    const left = columns.length - first.length;
    const all = box(`all ${columns.length} columns`, make);
    if (left) element.append(dom("div", { class: "row tools" }, all));
    element.append(place);
    return {
      update: (others) => {
        rows = others;
        made.update(rows);
      },
    };
  };

  /** A place for a legend, on paper on the same sheet as the figure below it. */
  const legend = () => {
    const place = dom("div");
    place.style.breakAfter = "avoid";
    return place;
  };

  /** A note that stands there while the threshold is not the one that the numbers are at. */
  const stays = (page) => {
    const at = data.eps.map((eps) => numbers.general(eps, 6)).join(", ");
    const note = dom("p", { class: "note" }, "The threshold above does not move these: they are as " +
      `measured, at ε = ${at}.`);
    const show = () => {
      note.hidden = page.controls.asAsked;
    };
    page.controls.onChange(show);
    show();
    return note;
  };

  return Object.freeze({ list, byKind, box, table, legend, stays });
})();
