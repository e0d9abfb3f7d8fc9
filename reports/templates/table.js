"use strict";
// Tables that are sorted by a click on a heading, and filtered by words and by status.
(() => {
  const words = new Intl.Collator(undefined, { numeric: true });
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const asItCame = [...body.rows];
    const headings = [...table.tHead.rows[0].cells];

    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const was = heading.getAttribute("aria-sort");
        for (const other of headings) other.removeAttribute("aria-sort");
        const next = { ascending: "descending", descending: null }[was];
        if (next === null) {
          body.append(...asItCame);
          return;
        }
        heading.setAttribute("aria-sort", next ?? "ascending");
        const sign = next === "descending" ? -1 : 1;
        const sorted = [...asItCame].sort(
          (one, other) => sign * words.compare(valueOf(one, column), valueOf(other, column)),
        );
        body.append(...sorted);
      });
    });
  }

  for (const filter of document.querySelectorAll(".filter")) {
    const rows = [...filter.parentElement.querySelectorAll("tbody tr")];
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const search = filter.querySelector("input[type=search]");
    const boxes = [...filter.querySelectorAll("input[type=checkbox]")];
    const count = filter.querySelector(".count");
    const apply = () => {
      const wanted = search.value.toLowerCase().split(/\s+/);
      const shown = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      let left = 0;
      for (const row of rows) {
        const text = texts.get(row);
        row.hidden = !shown.has(row.className) || !wanted.every((word) => text.includes(word));
        left += !row.hidden;
      }
      count.textContent = `${left} of ${rows.length} shown`;
    };
    count.setAttribute("role", "status");
    filter.addEventListener("input", apply);
    filter.hidden = false;
    apply();
  }
})();
