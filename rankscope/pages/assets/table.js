"use strict";

/**
 * A table that can be sorted and filtered, its rows in groups that fold.
 */
const table = (() => {
  const CHUNK = 200; // rows that are laid out at a time
  const MANY = 60; // of more rows, groups begin folded
  const WIDE = 8; // of more columns, the first stays in sight, and paper is turned

  /** A cell, filled now and again when values have changed. */
  const cellOf = (self, column, fill, first) => {
    const kind = { class: column.kind === "number" ? "number" : null };
    const made = dom(first ? "th" : "td", first ? { scope: "row", ...kind } : kind);
    const put = () => made.replaceChildren(fill());
    put();
    if (!column.kept) self.live.push(put);
    return made;
  };

  const rowOf = (self, row) =>
    dom("tr", {}, self.columns.map((column, i) =>
      cellOf(self, column, () => column.cell(row), i === 0)));

  /** Rows into a body: the first ones, then more on request. */
  const layOut = (self, rows, place, from = 0) => {
    place.append(...rows.slice(from, from + CHUNK).map((row) => rowOf(self, row)));
    const left = rows.length - from - CHUNK;
    if (left <= 0) return;
    const more = dom("tr", { class: "more" });
    const next = () => {
      more.remove();
      layOut(self, rows, place, from + CHUNK);
    };
    const button = dom("button", { type: "button", onclick: next }, `Show more of ${left} rows`);
    more.append(dom("td", { colspan: self.columns.length }, button));
    place.append(more);
  };

  /** The line of a group: its label, which folds it, and what its rows come to. */
  const lineOf = (self, label, rows, open) => {
    const fold = () => {
      self.open.set(label, !open);
      fill(self);
      [...self.body.querySelectorAll("tr.group button")]
        .find((button) => button.dataset.label === label)?.focus();
    };
    const button = dom(
      "button",
      { type: "button", "aria-expanded": String(open), "data-label": label, onclick: fold },
      dom("span", { class: "word" }, label),
      dom("span", { class: "count" }, ` ${rows.length}`),
    );
    const others = self.columns.slice(1).map((column) =>
      cellOf(self, column, () => column.summary(rows), false));
    return dom("tr", { class: "group" }, dom("th", { scope: "rowgroup" }, button), others);
  };

  /** A group; one of a single row is that row. */
  const groupOf = (self, label, rows) => {
    const place = dom("tbody");
    const alone = rows.length === 1;
    const open =
      self.open.get(label) ?? (self.words.length > 0 || self.rows.length <= MANY);
    if (!alone) place.append(lineOf(self, label, rows, open));
    if (alone || open) layOut(self, rows, place);
    return place;
  };

  const bodiesOf = (self, rows) => {
    if (!rows.length) {
      const none = dom("td", { colspan: self.columns.length, class: "empty" }, "Nothing matches.");
      return [dom("tbody", {}, dom("tr", {}, none))];
    }
    if (self.grouped) {
      const groups = tablecolumns.grouped(rows, self.groupBy);
      return [...groups].map(([label, own]) => groupOf(self, label, own));
    }
    const place = dom("tbody");
    layOut(self, rows, place);
    return [place];
  };

  /** Lay out what matches, in the order asked for. */
  const fill = (self) => {
    self.live = [];
    const kept = tablecolumns.matching(self.rows, self.words, self.text);
    const rows = tablecolumns.sorted(kept, self.order, self.sign);
    self.body.replaceChildren(self.caption, self.head, ...bodiesOf(self, rows));
    const all = numbers.counted(self.rows.length, "row", "rows");
    self.status.textContent = kept.length === self.rows.length ? all : `${kept.length} of ${all}`;
  };

  /** The head of a column, a button: ascending, then descending, then as it was. */
  const headOf = (self, column) => {
    const arrow = dom("span", { class: "arrow", "aria-hidden": "true" });
    const sort = () => {
      if (self.order !== column) [self.order, self.sign] = [column, 1];
      else if (self.sign === 1) self.sign = -1;
      else [self.order, self.sign] = [null, 1];
      self.marks.forEach((mark) => mark());
      fill(self);
    };
    const cell = dom(
      "th", { scope: "col", class: column.kind === "number" ? "number" : null },
      dom("button", { type: "button", title: column.help || null, onclick: sort }, column.heading, arrow),
    );
    self.marks.push(() => {
      const by = self.order === column;
      if (by) cell.setAttribute("aria-sort", self.sign === 1 ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
      arrow.textContent = by ? (self.sign === 1 ? " ▲" : " ▼") : "";
    });
    return cell;
  };

  /** What stands above: the filter, how rows are grouped, how many there are. */
  const toolsOf = (self, grouping) => {
    const search = dom("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    search.addEventListener("input", () => {
      self.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      self.open.clear();
      fill(self);
    });
    const group = dom("input", { type: "checkbox", checked: true });
    group.addEventListener("change", () => {
      self.grouped = group.checked;
      fill(self);
    });
    const foldAll = (open) => {
      const labels = tablecolumns.grouped(self.rows, self.groupBy).keys();
      for (const label of labels) self.open.set(label, open);
      fill(self);
    };
    const folding = self.groupBy && dom(
      "span", { class: "row" },
      dom("label", {}, group, ` by ${grouping}`),
      dom("button", { type: "button", onclick: () => foldAll(true) }, "Unfold all"),
      dom("button", { type: "button", onclick: () => foldAll(false) }, "Fold all"),
    );
    return dom("div", { class: "row tools" }, dom("label", {}, "Filter ", search), folding, self.status);
  };

  const explained = (columns) =>
    dom(
      "details", { class: "data" }, dom("summary", {}, "What the columns say"),
      dom("dl", {}, columns.map((one) => [dom("dt", {}, one.heading), dom("dd", {}, one.help)])),
    );

  /**
   * @param {Element} element where it is appended
   * @param {object} options
   * @param {string} options.caption
   * @param {Column[]} options.columns the first one names the row
   * @param {object[]} options.rows
   * @param {(row: object) => string} [options.groupBy] the label of a row's group
   * @param {string} [options.grouping] what the groups are, as "layer kind"
   * @param {null | ((row: object) => string)} [options.filter] the text that is searched; null for
   *   a table of so few rows that nobody would
   */
  return (element, { caption, columns: asked, rows, groupBy, grouping = "group", filter }) => {
    const columns = asked.map(tablecolumns.whole);
    const texts = columns.filter((column) => column.kind === "text");
    const self = {
      columns, rows, groupBy,
      text: filter ?? ((row) => texts.map((column) => column.value(row)).join(" ")),
      order: null, sign: 1, words: [], grouped: Boolean(groupBy), open: new Map(),
      live: [], // what fills the cells that are laid out
      marks: [], // what marks the column that is sorted by
      body: dom("table"),
      caption: dom("caption", { class: "hidden" }, caption),
      head: dom("thead"),
      status: dom("span", { class: "status", role: "status" }),
    };
    self.head.append(dom("tr", {}, columns.map((column) => headOf(self, column))));
    if (filter !== null) element.append(toolsOf(self, grouping));
    const name = columns.length > WIDE ? "scroll wide" : "scroll";
    element.append(dom("div", { class: name, tabindex: 0, role: "region", "aria-label": caption }, self.body));
    const told = columns.filter((column) => column.help);
    if (told.length) element.append(explained(told));
    fill(self);
    return {
      /** @param {object[]} other */
      update: (other) => {
        self.rows = other;
        fill(self);
      },
      /** The same rows, whose values have changed; their order stays until it is asked for again. */
      refresh: () => self.live.forEach((put) => put()),
    };
  };
})();
