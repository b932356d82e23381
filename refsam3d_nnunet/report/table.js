// Tables that sort: every heading becomes a button. A number sorts by its data-key, the rest by
// its text; what is undefined stays last. Without this script the tables are plain tables.
"use strict";
(() => {
  const collator = new Intl.Collator(undefined, { numeric: true });

  const keyOf = (cell) =>
    cell.dataset.key === undefined ? cell.textContent.trim() : numberOf(cell.dataset.key);

  // Python writes inf where JavaScript says Infinity.
  const numberOf = (text) => Number(text.replace("inf", "Infinity"));

  function compare(a, b, sign) {
    const undefinedLast = Number.isNaN(a) - Number.isNaN(b);
    if (undefinedLast) return undefinedLast;
    if (typeof a === "number" && typeof b === "number") return a === b ? 0 : sign * (a < b ? -1 : 1);
    return sign * collator.compare(a, b);
  }

  function sort(table, column) {
    const headings = [...table.tHead.rows[0].cells];
    const up = headings[column].getAttribute("aria-sort") !== "ascending";
    headings.forEach((heading) => heading.setAttribute("aria-sort", "none"));
    headings[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    const keys = new Map(rows.map((row) => [row, keyOf(row.cells[column])]));
    rows.sort((a, b) => compare(keys.get(a), keys.get(b), up ? 1 : -1));
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      button.addEventListener("click", () => sort(table, column));
      heading.replaceChildren(button);
      heading.setAttribute("aria-sort", "none");
    });
  }

  // Paper cannot be clicked: all details are printed.
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((details) => (details.open = true));
  });
})();
